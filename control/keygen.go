package control

import (
	"github.com/debughost/debughost/host/cluster"
)

// NewKey makes a cluster key, as a line of a key file, and its id. It needs no
// member.
func NewKey() (text, id string) {
	k := cluster.NewKey()
	return k.Reveal(), k.ID()
}

// LooksLikeKey tells whether somebody might have written a cluster key there.
func LooksLikeKey(text string) bool {
	_, err := cluster.ParseKey(text)
	return err == nil
}

// CreateKeyFile makes a cluster key and a file with it, for its owner alone. It
// does not touch a file that is there.
func CreateKeyFile(path string) (id string, err error) {
	k, err := cluster.CreateKeyFile(path)
	if err != nil {
		return "", err
	}
	return k.ID(), nil
}
