package registry

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestRefused breaks messages in one place each.
func TestRefused(t *testing.T) {
	good := messages(t)
	for typ, m := range good {
		require.NoError(t, parseAny(m), "type %d", typ)
		for n := range len(m) {
			_ = parseAny(m[:n]) // no panic
		}
		if typ != msgHeads && typ != msgDelta && typ != msgPast && typ != msgMeta { // those are lists
			require.ErrorIs(t, parseAny(append(slices.Clone(m), 0)), ErrMessage, "type %d", typ)
		}
	}

	u64 := func(b []byte, vs ...uint64) []byte {
		for _, v := range vs {
			b = binary.BigEndian.AppendUint64(b, v)
		}
		return b
	}
	deltaOf := func(flags byte, from, to, head uint64, change ...byte) []byte {
		b := append(begin(msgDelta, 64), flags)
		b = u64(appendBytes(b, "a"), 1, from, to, head, 0)
		return append(b, change...)
	}
	put := func(op byte, rest ...byte) []byte { return append([]byte{op, 1, 1, 'x'}, rest...) }
	child := []byte{1, 'c', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}
	require.NoError(t, parseAny(deltaOf(0, 0, 1, 1, put(kindChild*opKind, child...)...)))
	long := binary.AppendUvarint(nil, math.MaxUint64)

	for name, m := range map[string][]byte{
		"unknown flag":           deltaOf(1<<7, 0, 1, 1),
		"nothing new":            deltaOf(0, 1, 1, 1),
		"backwards":              deltaOf(0, 2, 1, 2),
		"behind its head":        deltaOf(0, 0, 2, 1),
		"change behind the end":  deltaOf(0, 0, 1, 5, 1, 2, 1, 'x'),
		"number stands still":    deltaOf(0, 0, 1, 1, 1, 0, 1, 'x'),
		"number overflows":       deltaOf(0, 5, 9, 9, append(append([]byte{1}, long...), 1, 'x')...),
		"huge key":               deltaOf(0, 0, 1, 1, append([]byte{1, 1}, long...)...),
		"empty key":              deltaOf(0, 0, 1, 1, 1, 1, 0),
		"key with newline":       deltaOf(0, 0, 1, 1, 1, 1, 1, '\n'),
		"no owner":               deltaOf(0, 0, 1, 1, put(0, child...)...),
		"unknown kind":           deltaOf(0, 0, 1, 1, put(5*opKind, child...)...),
		"deletion with owner":    deltaOf(0, 0, 1, 1, put(kindChild*opKind|opDelete, 1, 'c')...),
		"duplicate without":      deltaOf(0, 0, 1, 1, put(opDuplicate|opDelete)...),
		"pending duplicate":      deltaOf(0, 0, 1, 1, put(kindChild*opKind|opDuplicate|opPending, child...)...),
		"pending deletion":       deltaOf(0, 0, 1, 1, put(opDelete|opPending)...),
		"pending and confirmed":  deltaOf(0, 0, 1, 1, put(kindChild*opKind|opPending|opQuorum, child...)...),
		"creation of 64 bits":    deltaOf(0, 0, 1, 1, put(kindPid*opKind, append([]byte{1, 'n', 1, 'p'}, long...)...)...),
		"negative TTL":           deltaOf(0, 0, 1, 1, put(kindLease*opKind, append([]byte{1, 'l', 0, 0, 0, 0, 0, 0, 0, 1, 0}, long...)...)...),
		"long number":            deltaOf(0, 0, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"long stamp":             deltaOf(0, 0, 1, 1, put(kindChild*opKind, 1, 'c', 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)...),
		"want of the past":       u64(appendBytes(begin(msgWant, 64), "a"), 1, 5, 4),
		"vote of a third kind":   breakVote(good[msgVote]),
		"vote for a deletion":    voteForDeletion(),
		"past without an end":    u64(begin(msgPast, 32), 1, 0, 1),
		"past behind its end":    append(append(u64(begin(msgPast, 32), 1, 0, 1), 1), 1, 2, 1, 'x'),
		"metadata without a key": append(begin(msgMeta, 32), 0),
		"heads without a number": append(u64(append(begin(msgHeads, 32), 0), 1), 1, 'a'),
		"long name":              u64(appendBytes(begin(msgWant, 64), strings.Repeat("a", maxName+1)), 1, 1, 1),
	} {
		require.ErrorIs(t, parseAny(m), ErrMessage, name)
	}
}

// breakVote makes a vote's answer neither yes nor no.
func breakVote(m []byte) []byte {
	m = slices.Clone(m)
	// version, type, key "q", epoch, seq, round of one byte
	m[2+2+8+8+1] = 2
	return m
}

func voteForDeletion() []byte {
	b := appendBallot(begin(msgVote, 64), ballot{key: []byte("q"), epoch: 1, seq: 1})
	b = appendBool(b, false)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = appendBytes(appendBool(b, true), "a")
	b = binary.BigEndian.AppendUint64(b, 1)
	return append(b, opDelete, 1, 1, 'x')
}

func parseAny(m []byte) error {
	return (&Registry{core: newSim(nil, []string{"b"}, 1).members["b"].core}).core.receive(wall(1e18), "a", m)
}

// TestChangeRoundTrip has each record come out as it went in.
func TestChangeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z/ü日]{1,20}`)
		o := rapid.SampledFrom([]Owner{
			ByPid(text.Draw(t, "node"), "<0.1.0>", rapid.Uint32().Draw(t, "creation")),
			ByChild(text.Draw(t, "child")), ByMember(text.Draw(t, "member")), ByLease(text.Draw(t, "lease")),
		}).Draw(t, "owner")
		r := &record{
			slot: &slot{key: text.Draw(t, "key")}, life: &life{name: "a"}, owner: packOwner(o),
			value:   rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "value"),
			claimed: rapid.Uint64().Draw(t, "claimed"), stamp: rapid.Uint64().Draw(t, "stamp"),
			ttl: 5, quorum: rapid.Bool().Draw(t, "quorum"),
		}
		prev := rapid.Uint64Range(0, math.MaxUint64-1000).Draw(t, "prev")
		r.seq = prev + rapid.Uint64Range(1, 999).Draw(t, "step")
		p := &parser{b: appendRecord(nil, prev, r)}
		ch := parseChange(p, prev)
		require.NoError(t, p.end())
		got := ch.record(r.slot, r.life)
		got.owner = owner{ch.kind, ch.creation, string(ch.a), string(ch.b)}
		require.Equal(t, r, got)
		require.Equal(t, o, got.owner.unpack())
	})
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "a": true, "a b": true, "a\tb": false, "\x7f": false, "é": true, "日本": true,
		"\xff": false, "a\xe6\x97": false, "\u200b": false, "\u00a0": false, "😀": true,
	} {
		require.Equal(t, want, printable(s), "%q", s)
		require.Equal(t, want, printable([]byte(s)), "%q", s)
	}
}
