package dist

import (
	"strings"
	"testing"

	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	pidA  = etf.Pid{Node: us, ID: 5, Serial: 6, Creation: 7}
	pidB  = etf.Pid{Node: them, ID: 1 << 31, Serial: 1 << 30, Creation: 1<<32 - 1}
	refA  = etf.Ref{Node: us, Creation: 7, Len: 5, Words: [5]uint32{1, 2, 3, 4, 1<<32 - 1}}
	token = etf.Tuple{etf.Int(1), etf.List{etf.Atom("label")}}
	empty = etf.Atom("")
)

// controls has a message of each operation, with the tuple that it is on the
// wire.
var controls = []struct {
	m    Control
	want etf.Tuple
}{
	{Control{Op: OpLink, From: pidA, To: pidB}, etf.Tuple{etf.Int(1), pidA, pidB}},
	{Control{Op: OpSend, To: pidB}, etf.Tuple{etf.Int(2), empty, pidB}},
	{Control{Op: OpExit, From: pidA, To: pidB, Reason: token}, etf.Tuple{etf.Int(3), pidA, pidB, token}},
	{Control{Op: OpUnlink, From: pidA, To: pidB}, etf.Tuple{etf.Int(4), pidA, pidB}},
	{Control{Op: OpRegSend, From: pidA, ToName: "nämed"}, etf.Tuple{etf.Int(6), pidA, empty, etf.Atom("nämed")}},
	{Control{Op: OpGroupLeader, From: pidA, To: pidB}, etf.Tuple{etf.Int(7), pidA, pidB}},
	{Control{Op: OpExit2, From: pidA, To: pidB, Reason: empty}, etf.Tuple{etf.Int(8), pidA, pidB, empty}},
	{Control{Op: OpSendTT, To: pidB, Token: token}, etf.Tuple{etf.Int(12), empty, pidB, token}},
	{Control{Op: OpExitTT, From: pidA, To: pidB, Token: token, Reason: etf.Int(1)}, etf.Tuple{etf.Int(13), pidA, pidB, token, etf.Int(1)}},
	{Control{Op: OpRegSendTT, From: pidA, ToName: "n", Token: token}, etf.Tuple{etf.Int(16), pidA, empty, etf.Atom("n"), token}},
	{Control{Op: OpExit2TT, From: pidA, To: pidB, Token: token, Reason: etf.Int(1)}, etf.Tuple{etf.Int(18), pidA, pidB, token, etf.Int(1)}},
	{Control{Op: OpMonitorP, From: pidA, To: pidB, Ref: refA}, etf.Tuple{etf.Int(19), pidA, pidB, refA}},
	{Control{Op: OpMonitorP, From: pidA, ToName: "n", Ref: refA}, etf.Tuple{etf.Int(19), pidA, etf.Atom("n"), refA}},
	{Control{Op: OpDemonitorP, From: pidA, To: pidB, Ref: refA}, etf.Tuple{etf.Int(20), pidA, pidB, refA}},
	{Control{Op: OpMonitorPExit, From: pidA, To: pidB, Ref: refA, Reason: empty}, etf.Tuple{etf.Int(21), pidA, pidB, refA, empty}},
	{Control{Op: OpMonitorPExit, FromName: "n", To: pidB, Ref: refA, Reason: empty}, etf.Tuple{etf.Int(21), etf.Atom("n"), pidB, refA, empty}},
	{Control{Op: OpSendSender, From: pidA, To: pidB}, etf.Tuple{etf.Int(22), pidA, pidB}},
	{Control{Op: OpSendSenderTT, From: pidA, To: pidB, Token: token}, etf.Tuple{etf.Int(23), pidA, pidB, token}},
	{Control{Op: OpPayloadExit, From: pidA, To: pidB}, etf.Tuple{etf.Int(24), pidA, pidB}},
	{Control{Op: OpPayloadExitTT, From: pidA, To: pidB, Token: token}, etf.Tuple{etf.Int(25), pidA, pidB, token}},
	{Control{Op: OpPayloadExit2, From: pidA, To: pidB}, etf.Tuple{etf.Int(26), pidA, pidB}},
	{Control{Op: OpPayloadExit2TT, From: pidA, To: pidB, Token: token}, etf.Tuple{etf.Int(27), pidA, pidB, token}},
	{Control{Op: OpPayloadMonitorPExit, From: pidA, To: pidB, Ref: refA}, etf.Tuple{etf.Int(28), pidA, pidB, refA}},
	{Control{Op: OpSpawnRequest, From: pidA, Ref: refA, Spawn: &SpawnRequest{pidB, "m", "f", 3, etf.List{etf.Atom("monitor")}}},
		etf.Tuple{etf.Int(29), refA, pidA, pidB, etf.Tuple{etf.Atom("m"), etf.Atom("f"), etf.Int(3)}, etf.List{etf.Atom("monitor")}}},
	{Control{Op: OpSpawnRequestTT, From: pidA, Ref: refA, Token: token, Spawn: &SpawnRequest{pidB, "m", "f", 300, etf.List{}}},
		etf.Tuple{etf.Int(30), refA, pidA, pidB, etf.Tuple{etf.Atom("m"), etf.Atom("f"), etf.Int(300)}, etf.List{}, token}},
	{Control{Op: OpSpawnReply, Ref: refA, To: pidA, Flags: SpawnedLink | SpawnedMonitor, Result: pidB}, etf.Tuple{etf.Int(31), refA, pidA, etf.Int(3), pidB}},
	{Control{Op: OpSpawnReplyTT, Ref: refA, To: pidA, Result: etf.Atom("notsup"), Token: token}, etf.Tuple{etf.Int(32), refA, pidA, etf.Int(0), etf.Atom("notsup"), token}},
	{Control{Op: OpAliasSend, From: pidA, Ref: refA}, etf.Tuple{etf.Int(33), pidA, refA}},
	{Control{Op: OpAliasSendTT, From: pidA, Ref: refA, Token: token}, etf.Tuple{etf.Int(34), pidA, refA, token}},
	{Control{Op: OpUnlinkID, ID: 1 << 40, From: pidA, To: pidB}, etf.Tuple{etf.Int(35), etf.Int(1 << 40), pidA, pidB}},
	{Control{Op: OpUnlinkIDAck, ID: 1000, From: pidA, To: pidB}, etf.Tuple{etf.Int(36), etf.Int(1000), pidA, pidB}},
	{Control{Op: OpAltactSig, Flags: AltactPriority, From: pidA, To: pidB}, etf.Tuple{etf.Int(37), etf.Int(1), pidA, pidB}},
	{Control{Op: OpAltactSig, Flags: AltactAlias, From: pidA, Ref: refA}, etf.Tuple{etf.Int(37), etf.Int(4), pidA, refA}},
	{Control{Op: OpAltactSig, Flags: AltactName | AltactToken, From: pidA, ToName: "n", Token: token}, etf.Tuple{etf.Int(37), etf.Int(10), pidA, etf.Atom("n"), token}},
}

func parse(t *testing.T, b []byte, refs ...etf.Atom) (m Control, w *wire, err error) {
	t.Helper()
	w = &wire{b: b, refs: refs, names: &nameTable{local: us, peer: them}, dec: etf.NewDecoder(etf.Limits{})}
	err = w.parseControl(&m)
	return m, w, err
}

func TestControl(t *testing.T) {
	seen := map[Op]bool{}
	for _, tt := range controls {
		t.Run(tt.m.Op.String(), func(t *testing.T) {
			seen[tt.m.Op] = true
			b, err := appendControl([]byte("x"), &tt.m)
			require.NoError(t, err)
			got, err := etf.NewDecoder(etf.Limits{}).DecodeBody(b[1:])
			require.NoError(t, err)
			assert.Equal(t, etf.Term(tt.want), got, "on the wire")

			m, w, err := parse(t, append(b[1:], "rest"...))
			require.NoError(t, err)
			require.NoError(t, w.soft)
			assert.Equal(t, tt.m, m, "and back")
			assert.Equal(t, "rest", string(w.b))

			for i := range b[1:] {
				m, w, err := parse(t, b[1:1+i])
				if err == nil && w.soft == nil {
					t.Errorf("%d of %d bytes are taken for %+v", i, len(b)-1, m)
				}
			}
		})
	}
	for op := range Op(len(opNames)) {
		assert.Equal(t, op.known(), seen[op], op.String())
	}
	assert.Equal(t, "OP_99", Op(99).String())
	assert.False(t, Op(99).known())
}

func TestControlWithOtherEncodings(t *testing.T) {
	oldPid := []byte{103, 100, 0, 1, 0xfc, 0, 0, 0, 1, 0, 0, 0, 2, 3} // Latin-1
	oldRef := []byte{114, 0, 1, 115, 1, 'n', 2, 0, 0, 0, 9}
	atom := []byte{118, 0, 1, 'a'}
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	m, _, err := parse(t, cat([]byte{105, 0, 0, 0, 4, 98, 0, 0, 0, 19}, oldPid, atom, oldRef))
	require.NoError(t, err)
	assert.Equal(t, Control{Op: OpMonitorP, From: etf.Pid{Node: "ü", ID: 1, Serial: 2, Creation: 3}, ToName: "a",
		Ref: etf.Ref{Node: "n", Creation: 2, Len: 1, Words: [5]uint32{9}}}, m)

	m, _, err = parse(t, []byte{104, 3, 97, 1, 88, 82, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 88, 82, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8}, "x@h", "y@h")
	require.NoError(t, err)
	assert.Equal(t, Control{Op: OpLink, From: etf.Pid{Node: "x@h", ID: 1, Creation: 9}, To: etf.Pid{Node: "y@h", ID: 2, Creation: 8}}, m)

	// Flags of any size, of which the lowest byte counts, and elements that a
	// later release appends.
	pid, err := etf.Append(nil, pidA)
	require.NoError(t, err)
	m, w, err := parse(t, cat([]byte{104, 5, 97, 37, 110, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, pid, pid, []byte{97, 9}, []byte{1}))
	require.NoError(t, err)
	assert.Equal(t, Control{Op: OpAltactSig, Flags: 1, From: pidA, To: pidA}, m)
	assert.Equal(t, []byte{1}, w.b)
}

func TestControlOfUnknownOperation(t *testing.T) {
	for _, op := range []etf.Int{0, 5, 9, 38, 255, 256, 1 << 40} {
		tuple := etf.Tuple{op, pidA, etf.Atom("what")}
		b, err := etf.Append(nil, tuple)
		require.NoError(t, err)
		m, w, err := parse(t, append(b, 1))
		require.NoError(t, err)
		assert.Equal(t, Control{Other: tuple}, m)
		assert.Equal(t, []byte{1}, w.b)
	}
}

func TestBadControl(t *testing.T) {
	pid, err := etf.Append(nil, pidA)
	require.NoError(t, err)
	p := string(pid)
	tests := []struct{ name, in, err string }{
		{"nothing", "", "ends early"},
		{"no tuple", "\x61\x01", "tag 97 where a tuple is due"},
		{"empty tuple", "\x68\x00", "ends early"},
		{"operation no integer", "\x68\x01\x6a", "tag 106 where an integer is due"},
		{"operation negative", "\x68\x01\x62\xff\xff\xff\xff", "negative"},
		{"operation a negative big", "\x68\x01\x6e\x01\x01\x01", "negative"},
		{"too few", "\x68\x02\x61\x01" + p, "LINK as a tuple of 2"},
		{"too many", "\x68\x04\x61\x01" + p + p + p, "LINK as a tuple of 4"},
		{"huge tuple", "\x69\xff\xff\xff\xff\x61\x01", "LINK as a tuple of 2147483647"},
		{"pid is none", "\x68\x03\x61\x01\x61\x01", "where a pid is due"},
		{"node is no atom", "\x68\x03\x61\x01\x58\x61\x01", "where an atom is due"},
		{"atom not in the header", "\x68\x03\x61\x01\x58\x52\x00", "atom 0 of 0"},
		{"atom too long", "\x68\x03\x61\x01\x58\x76\x10\x00" + strings.Repeat("a", 4096), "bad atom"},
		{"atom not UTF-8", "\x68\x03\x61\x01\x58\x77\x01\xff", "bad atom"},
		{"reference is none", "\x68\x03\x61\x21" + p + "\x61\x01", "where a reference is due"},
		{"reference of no words", "\x68\x03\x61\x21" + p + "\x5a\x00\x00", "reference of 0 words"},
		{"reference of six words", "\x68\x03\x61\x21" + p + "\x5a\x00\x06", "reference of 6 words"},
		{"entry point of two", "\x68\x06\x61\x1d" + "\x5a\x00\x01\x77\x01a\x00\x00\x00\x00\x00\x00\x00\x01" + p + p + "\x68\x02", "entry point"},
		{"spawn options", "\x68\x06\x61\x1d" + "\x5a\x00\x01\x77\x01a\x00\x00\x00\x00\x00\x00\x00\x01" + p + p + "\x68\x03\x77\x01m\x77\x01f\x61\x00\x61\x00", "not a list"},
		{"token that is not there", "\x68\x04\x61\x25\x61\x02" + p + p, "no token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := parse(t, []byte(tt.in))
			require.ErrorContains(t, err, tt.err)
		})
	}
}

// TestFreeTermThatDoesNotDecode is what a later release may send: the message
// is lost in part, not the connection.
func TestFreeTermThatDoesNotDecode(t *testing.T) {
	b, err := appendControl(nil, &Control{Op: OpExit, From: pidA, To: pidB, Reason: empty})
	require.NoError(t, err)
	b[len(b)-2] = 255 // the tag of ''
	m, w, err := parse(t, b)
	require.NoError(t, err)
	require.Error(t, w.soft)
	assert.Equal(t, Control{Op: OpExit, From: pidA, To: pidB}, m)

	m, w, err = parse(t, []byte{104, 2, 97, 99, 255})
	require.NoError(t, err)
	require.Error(t, w.soft)
	assert.Equal(t, Control{}, m)
}

func TestEncodeBadControl(t *testing.T) {
	long := etf.Atom(strings.Repeat("x", 256))
	for _, m := range []Control{
		{},
		{Op: 99},
		{Op: OpLink, From: etf.Pid{Node: long}},
		{Op: OpRegSend, ToName: long},
		{Op: OpMonitorP, ToName: "a"}, // no reference
		{Op: OpExit},                  // no reason
		{Op: OpSpawnRequest, Ref: refA},
	} {
		b, err := appendControl([]byte("x"), &m)
		require.Error(t, err, "%+v", m)
		assert.Equal(t, "x", string(b))
	}
}
