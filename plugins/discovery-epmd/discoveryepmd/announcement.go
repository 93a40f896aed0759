package discoveryepmd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

// announcement is what a member says of itself in the extra field of its
// registration at EPMD, as ASCII text of five words:
//
//	debughost/1 CLUSTER MEMBER HOST:PORT PROOF
//
// CLUSTER and MEMBER are percent-encoded. PROOF is the first half of the
// HMAC-SHA256 of the text before it, in unpadded base64url, under a secret that
// the members share; a - stands for no secret. Anybody on the machine may
// register anything at EPMD: without the proof a stranger could have all
// members dial an address of his choice.
type announcement struct {
	cluster, member, addr string

	signed string // the text before the proof
	proof  []byte // nil is none
}

const (
	announcementTag = "debughost/1"
	maxAnnouncement = 255 // bytes
	proofSize       = sha256.Size / 2
)

// encode is the text with a proof by the secret, if there is one.
func (a announcement) encode(secrets []sdk.Secret) ([]byte, error) {
	text := strings.Join([]string{announcementTag, url.PathEscape(a.cluster), url.PathEscape(a.member), a.addr}, " ")
	proof := "-"
	if len(secrets) > 0 {
		proof = base64.RawURLEncoding.EncodeToString(prove(text, secrets[0]))
	}
	text += " " + proof
	if len(text) > maxAnnouncement {
		return nil, sdk.WithHint(fmt.Errorf("the announcement has %d bytes, at most %d fit", len(text), maxAnnouncement), "choose a shorter name for the member or a shorter label for the cluster")
	}
	return []byte(text), nil
}

func prove(text string, secret sdk.Secret) []byte {
	mac := hmac.New(sha256.New, secret.Bytes())
	mac.Write([]byte("discovery-epmd " + text))
	return mac.Sum(nil)[:proofSize]
}

var errNoAnnouncement = errors.New("not an announcement of a member")

// parseAnnouncement reads what anybody may have registered. There is one text
// for each announcement; all others are refused.
func parseAnnouncement(b []byte) (announcement, error) {
	if len(b) > maxAnnouncement {
		return announcement{}, errNoAnnouncement
	}
	words := strings.Split(string(b), " ")
	if len(words) != 5 || words[0] != announcementTag {
		return announcement{}, errNoAnnouncement
	}
	a := announcement{addr: words[3], signed: strings.Join(words[:4], " ")}
	for i, into := range []*string{&a.cluster, &a.member} {
		word := words[1+i]
		plain, err := url.PathUnescape(word)
		if err != nil || url.PathEscape(plain) != word {
			return announcement{}, errNoAnnouncement
		}
		*into = plain
	}
	if (sdk.Node{Name: a.member, Addr: a.addr, Role: sdk.RoleMember}).Validate() != nil || listing.CheckAddr(a.addr) != nil {
		return announcement{}, errNoAnnouncement
	}
	if words[4] != "-" {
		proof, err := base64.RawURLEncoding.Strict().DecodeString(words[4])
		if err != nil || len(proof) != proofSize {
			return announcement{}, errNoAnnouncement
		}
		a.proof = proof
	}
	return a, nil
}

// provenBy tells whether one of the secrets made the proof. Those who have none
// ask for none.
func (a announcement) provenBy(secrets []sdk.Secret) bool {
	return len(secrets) == 0 || slices.ContainsFunc(secrets, func(s sdk.Secret) bool {
		return hmac.Equal(a.proof, prove(a.signed, s))
	})
}

// registration is how the member is entered at EPMD, under the n-th of its
// names. They stay the same when it starts again: nodes that list them make
// atoms of them.
func registration(self sdk.Self, port, n int, text []byte) epmd.Node {
	sum := sha256.Sum256([]byte(self.Cluster + "\x00" + self.Member + "\x00" + self.Addr))
	name := "debughost-" + sanitize(self.Member) + "-" + hex.EncodeToString(sum[:4])
	if n > 0 {
		name += fmt.Sprintf("-%d", n+1)
	}
	return epmd.Node{Name: name, Port: port, Type: epmd.NodeHidden, Extra: text}
}

// sanitize keeps what is harmless in the name of a node, and not too much.
func sanitize(name string) string {
	const most = 40
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name[:min(len(name), most)])
}
