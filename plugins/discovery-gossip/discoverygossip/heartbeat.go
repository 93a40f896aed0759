package discoverygossip

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

// heartbeat is what members say to each other. In a packet, all integers
// big-endian:
//
//	"dhg" 1          format and its version
//	cluster:64       the first 8 bytes of SHA-256("debughost cluster " LABEL)
//	incarnation:64   grows with each start of the member
//	time:64          Unix nanoseconds, signed; grows with each packet
//	flags:8          bit 0: hello, bit 1: answer
//	n:8 member:n     its name
//	n:8 addr:n       host:port of its gossip
//	proof:256        HMAC-SHA256 of "discovery-gossip " and all before, under
//	                 a secret that the members share
//
// incarnation and time together number a member's packets, also over restarts
// of the plugin: no packet counts twice.
type heartbeat struct {
	cluster     [clusterSize]byte
	incarnation uint64
	time        int64
	hello       bool // answer me: I may not know you
	answer      bool // this is one; do not answer it
	member      string
	addr        string

	signed, proof []byte // parts of the packet it was read from
}

const (
	heartbeatTag = "dhg\x01"
	clusterSize  = 8
	proofSize    = sha256.Size
	flagHello    = 1
	flagAnswer   = 2
	headSize     = len(heartbeatTag) + clusterSize + 8 + 8 + 1
	// maxPacket bounds what is read of a packet, of libcluster's too: the name
	// of a node has 1020 bytes at most.
	maxPacket = 1400
)

var (
	errMalformed = errors.New("not a heartbeat")
	errForged    = errors.New("not proven with this cluster's key")
)

// clusterOf is how the label of a cluster is told.
func clusterOf(label string) (id [clusterSize]byte) {
	sum := sha256.Sum256([]byte("debughost cluster " + label))
	copy(id[:], sum[:])
	return id
}

// append adds the packet to b. The names must be of 255 bytes at most.
func (h heartbeat) append(b []byte, secret sdk.Secret) []byte {
	start := len(b)
	b = append(b, heartbeatTag...)
	b = append(b, h.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, h.incarnation)
	b = binary.BigEndian.AppendUint64(b, uint64(h.time))
	var flags byte
	if h.hello {
		flags |= flagHello
	}
	if h.answer {
		flags |= flagAnswer
	}
	b = append(b, flags)
	b = append(append(b, byte(len(h.member))), h.member...)
	b = append(append(b, byte(len(h.addr))), h.addr...)
	return append(b, prove(b[start:], secret)...)
}

func prove(signed []byte, secret sdk.Secret) []byte {
	mac := hmac.New(sha256.New, secret.Bytes())
	mac.Write([]byte("discovery-gossip "))
	mac.Write(signed)
	return mac.Sum(nil)
}

// parseHeartbeat reads a packet, which the result keeps parts of. It does not
// check the proof.
func parseHeartbeat(b []byte) (heartbeat, error) {
	if len(b) < headSize+2+proofSize || !bytes.HasPrefix(b, []byte(heartbeatTag)) {
		return heartbeat{}, errMalformed
	}
	var h heartbeat
	h.signed, h.proof = b[:len(b)-proofSize], b[len(b)-proofSize:]
	at := h.signed[len(heartbeatTag):]
	at = at[copy(h.cluster[:], at):]
	h.incarnation, at = binary.BigEndian.Uint64(at), at[8:]
	h.time, at = int64(binary.BigEndian.Uint64(at)), at[8:]
	flags := at[0]
	if flags&^(flagHello|flagAnswer) != 0 {
		return heartbeat{}, errMalformed
	}
	h.hello, h.answer = flags&flagHello != 0, flags&flagAnswer != 0
	at = at[1:]
	for _, into := range []*string{&h.member, &h.addr} {
		if len(at) < 1 || len(at) < 1+int(at[0]) {
			return heartbeat{}, errMalformed
		}
		*into, at = string(at[1:1+int(at[0])]), at[1+int(at[0]):]
	}
	if len(at) > 0 || checkMember(h.member, h.addr) != nil {
		return heartbeat{}, errMalformed
	}
	return h, nil
}

// checkMember accepts what a heartbeat can tell of a member.
func checkMember(name, addr string) error {
	if err := (sdk.Node{Name: name, Addr: addr, Role: sdk.RoleMember}).Validate(); err != nil {
		return err
	}
	if len(name) > 255 {
		return errors.New("the member's name is longer than 255 bytes")
	}
	return listing.CheckAddr(addr)
}

// provenBy tells whether one of the secrets made the proof.
func (h heartbeat) provenBy(secrets []sdk.Secret) bool {
	return slices.ContainsFunc(secrets, func(s sdk.Secret) bool { return hmac.Equal(h.proof, prove(h.signed, s)) })
}
