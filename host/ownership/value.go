package ownership

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// The registry's keys. What follows is the node's full name.
const (
	seenPrefix   = "seen/"   // duplicate: one of each member that discovery tells of the node
	targetPrefix = "target/" // unique: whose it is, is attached, or tries to be
	// duplicate: one of each member that has names of processes of the node and
	// is not its owner; the owner takes them over
	handoverPrefix = "handover/"
)

// maxText bounds each text of a value: the values are other members', and go to
// all of them.
const maxText = 512

// seenValue is the value of a seen key, as JSON.
type seenValue struct {
	Local    bool   `json:"local,omitempty"`    // the node is on the member's machine
	Box      bool   `json:"box,omitempty"`      // the node is of a sandbox of the member
	Failed   bool   `json:"failed,omitempty"`   // the member cannot attach to it
	Failures int    `json:"failures,omitempty"` // how often it could not
	Reason   string `json:"reason,omitempty"`   // why not
	Since    int64  `json:"since"`              // when the member first saw it, Unix milliseconds
}

// targetValue is the value of a target key, as JSON: a target.Info without its
// node, which is in the key, and its owner, which is the entry's origin.
type targetValue struct {
	State      target.State `json:"state"`
	Reason     string       `json:"reason,omitempty"`
	Hint       string       `json:"hint,omitempty"`
	OTPRelease string       `json:"otp_release,omitempty"`
	Since      int64        `json:"since"` // Unix milliseconds
	Topologies []string     `json:"topologies,omitempty"`
	Creation   uint32       `json:"creation,omitempty"`
	Agent      string       `json:"agent,omitempty"`
}

func encodeInfo(i target.Info) []byte {
	v := targetValue{
		State: i.State, Reason: cut(i.Reason), Hint: cut(i.Hint), OTPRelease: cut(i.OTPRelease),
		Since: i.Since.UnixMilli(), Creation: i.Creation, Agent: cut(i.Agent),
	}
	for _, t := range i.Topologies[:min(len(i.Topologies), 16)] {
		v.Topologies = append(v.Topologies, cut(t))
	}
	return encode(v)
}

// decodeInfo reads the target that an entry tells of.
func decodeInfo(e registry.Entry) (target.Info, error) {
	node := strings.TrimPrefix(e.Key, targetPrefix)
	var v targetValue
	if err := decode(e, &v); err != nil {
		return target.Info{Node: node, Owner: e.Origin}, err
	}
	if !states[v.State] {
		return target.Info{Node: node, Owner: e.Origin}, fmt.Errorf("read %s of %s: unknown state %.20q", e.Key, e.Origin, v.State)
	}
	return target.Info{
		Node: node, State: v.State, Reason: v.Reason, Hint: v.Hint, OTPRelease: v.OTPRelease, Owner: e.Origin,
		Since: time.UnixMilli(v.Since), Topologies: v.Topologies, Creation: v.Creation, Agent: v.Agent,
	}, nil
}

var states = map[target.State]bool{
	target.Discovered: true, target.Connecting: true, target.Attached: true,
	target.Unreachable: true, target.Refused: true, target.Gone: true,
}

func encodeSeen(v seenValue) []byte {
	v.Reason = cut(v.Reason)
	return encode(v)
}

func decodeSeen(e registry.Entry) (seenValue, error) {
	var v seenValue
	err := decode(e, &v)
	return v, err
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // no value of these types fails
	}
	return b
}

// decode reads a value. Members of a later version may say more.
func decode(e registry.Entry, v any) error {
	if err := json.Unmarshal(e.Value, v); err != nil {
		return fmt.Errorf("read %s of %s: %w", e.Key, e.Origin, err)
	}
	return nil
}

// cut shortens a text, between two characters.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
