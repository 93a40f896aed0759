package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

func TestExplain(t *testing.T) {
	shake := func(cause error) error {
		return &node.ConnectError{Node: "a@b", Stage: node.StageHandshake, Cause: &dist.HandshakeError{Peer: "a@b", Cause: cause, Hint: "h", Answered: "c@d"}}
	}
	dial := func(stage node.Stage, cause error) error {
		return &node.ConnectError{Node: "a@b", Stage: stage, Cause: cause}
	}
	end := func(cause error) error { return &node.NodeDownError{Node: "a@b", Cause: cause} }
	for _, c := range []struct {
		err    error
		state  State
		reason string
		slow   bool
	}{
		{nil, Gone, "closed", false},
		{end(dist.ErrPeerClosed), Gone, "the node closed the connection", false},
		{end(syscall.ECONNRESET), Gone, "the node closed the connection", false},
		{end(dist.ErrTickTimeout), Unreachable, "tick time", false},
		{end(dist.ErrWriteTimeout), Unreachable, "tick time", false},
		{end(errors.New("garbage")), Gone, "garbage", false},
		{&CookieError{Node: "a@b", Err: fs.ErrNotExist}, Refused, "no usable cookie", true},
		{shake(dist.ErrCookie), Refused, "wrong cookie", true},
		{shake(dist.ErrNotAllowed), Refused, "does not allow", true},
		{shake(dist.ErrTooOld), Refused, "version too old", true},
		{shake(dist.ErrNameMismatch), Refused, "c@d", true},
		{shake(dist.ErrProtocol), Refused, "not an Erlang node", true},
		{shake(dist.ErrAlive), Refused, "earlier connection", false},
		{shake(dist.ErrSimultaneous), Refused, "earlier connection", false},
		{shake(dist.ErrHandshakeTimeout), Unreachable, "does not answer", false},
		{shake(dist.ErrPeerClosed), Unreachable, "in the handshake", false},
		{shake(errors.New("odd")), Unreachable, "odd", false},
		{dial(node.StageResolve, &net.DNSError{Err: "no such host", Name: "b"}), Unreachable, "name not resolvable", false},
		{dial(node.StageEPMD, epmd.ErrNotRegistered), Unreachable, "not running", false},
		{dial(node.StageEPMD, syscall.ECONNREFUSED), Unreachable, "no EPMD", false},
		{dial(node.StageDial, syscall.ECONNREFUSED), Unreachable, "nothing listens", false},
		{dial(node.StageDial, syscall.ETIMEDOUT), Unreachable, "no answer in time", false},
		{dial(node.StageDial, fs.ErrPermission), Unreachable, "not permitted", false},
		{dial(node.StageDial, errors.New("odd")), Unreachable, "dial: odd", false},
		{fmt.Errorf("connect: %w", context.DeadlineExceeded), Unreachable, "no answer in time", false},
		{errors.New("odd"), Unreachable, "odd", false},
	} {
		v := Explain(c.err)
		require.Equal(t, c.state, v.State, "%v", c.err)
		require.Contains(t, v.Reason, c.reason, "%v", c.err)
		require.Equal(t, c.slow, v.Slow, "%v", c.err)
	}
	require.ErrorIs(t, &CookieError{Node: "a@b", Err: fs.ErrNotExist}, fs.ErrNotExist)
	require.Contains(t, (&CookieError{Node: "a@b", Err: fs.ErrNotExist}).Error(), "read cookie for a@b")
}

func TestFacts(t *testing.T) {
	for _, c := range []struct {
		err        error
		code, hint string
	}{
		{hint(fmt.Errorf("kill: %w", ErrProtected), "force"), "protected", "force"},
		{hint(&node.CallError{Module: "m"}, "look"), "remote", "look"},
		{hint(errors.New("odd"), "look"), "", "look"},
		{fmt.Errorf("find: %w", ErrNoTarget), "unknown_node", ""},
		{ErrAmbiguous, "ambiguous_node", ""},
	} {
		var f interface {
			Facts() (code, node, hint string)
		}
		require.ErrorAs(t, c.err, &f)
		code, _, hint := f.Facts()
		require.Equal(t, c.code, code)
		require.Equal(t, c.hint, hint)
	}
}

func TestTooOld(t *testing.T) {
	for release, old := range map[string]bool{"24": true, "R16B03": false, "25": false, "29": false} {
		v, is := tooOld(release)
		require.Equal(t, old, is, release)
		if old {
			require.Contains(t, v.Reason, "OTP 24")
		}
	}
}

func TestText(t *testing.T) {
	for want, term := range map[string]etf.Term{
		"ab": etf.String("ab"), "bin": etf.Binary("bin"), "at": etf.Atom("at"),
		"ü→": etf.List{etf.Int(252), etf.Int(8594)}, "": etf.List{etf.Atom("x")},
	} {
		require.Equal(t, want, text(term))
	}
	require.Empty(t, text(etf.Int(1)))
}

func TestCount(t *testing.T) {
	huge := new(big.Int).SetUint64(1 << 63)
	require.Equal(t, uint64(1<<63), count(etf.BigInt{Int: huge}))
	require.Zero(t, count(etf.BigInt{Int: new(big.Int).Lsh(huge, 4)}))
	require.Zero(t, count(etf.Int(-1)))
	require.Zero(t, count(etf.Atom("x")))
	require.Equal(t, uint64(7), count(etf.Int(7)))
}

// TestRowsOfNonsense feeds what a node under somebody else's control may send.
func TestRowsOfNonsense(t *testing.T) {
	r := &rowReader{node: "a@b", mfas: map[mfa]string{}, note: func(etf.Pid) {}}
	row := func(change func(etf.Tuple)) etf.Term {
		fun := etf.Tuple{etf.Atom("m"), etf.Atom("f"), etf.Int(1)}
		e := etf.Tuple{etf.Pid{ID: 1}, etf.Atom("n"), etf.Int(1), etf.Int(2), etf.Int(3), fun, fun, etf.Atom("waiting"), etf.Float(1.5)}
		change(e)
		return e
	}
	p, err := r.row(row(func(etf.Tuple) {}))
	require.NoError(t, err)
	require.Equal(t, Process{Node: "a@b", Pid: "<0.1.0>", RegisteredName: "n", Memory: 1, Reductions: 2, MessageQueueLen: 3,
		CurrentFunction: "m:f/1", InitialCall: "m:f/1", Status: "waiting", Rate: 1.5}, p)
	p, err = r.row(row(func(e etf.Tuple) {
		e[1], e[5], e[6], e[7], e[8] = etf.List{}, etf.Atom("undefined"), etf.Tuple{etf.Int(1), etf.Int(2), etf.Int(3)}, etf.Int(1), etf.Int(2)
	}))
	require.NoError(t, err)
	require.Equal(t, Process{Node: "a@b", Pid: "<0.1.0>", Memory: 1, Reductions: 2, MessageQueueLen: 3, Rate: 2}, p)
	for _, bad := range []etf.Term{etf.Int(1), etf.Tuple{}, row(func(e etf.Tuple) { e[0] = etf.Int(1) })} {
		_, err := r.all(etf.List{bad})
		require.Error(t, err)
	}
	_, err = r.all(etf.Atom("oops"))
	require.Error(t, err)
}

// TestChunks feeds a table's reader what a node may send, and has tape and tree
// agree.
func TestChunks(t *testing.T) {
	r := (&rowReader{node: "a@b", mfas: map[mfa]string{}, note: func(etf.Pid) {}}).chunks()
	fun := etf.Tuple{etf.Atom("m"), etf.Atom("f"), etf.Int(1)}
	row := etf.Tuple{etf.Pid{Node: "a@b", ID: 1, Creation: 1}, etf.Atom("n"), etf.Int(1), etf.Int(2), etf.Int(3), fun, fun, etf.Atom("waiting"), etf.Int(0)}
	odd := etf.Tuple{etf.Pid{Node: "a@b", ID: 2, Creation: 1}, etf.List{}, etf.BigInt{Int: new(big.Int).Lsh(big.NewInt(1), 80)}, etf.Int(2), etf.Int(-3),
		etf.Atom("undefined"), etf.Tuple{etf.Int(1), etf.Int(2), etf.Int(3)}, etf.Int(1), etf.Int(0)}
	worker := etf.Pid{Node: "a@b", ID: 9, Creation: 1}
	read := func(term etf.Term) ([]Process, etf.Pid, bool, error) {
		body, err := etf.Append(nil, term)
		require.NoError(t, err)
		return r.read(body)
	}
	got, from, ok, err := read(etf.Tuple{tableRef, worker, etf.List{row, odd}})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, worker, from)
	want, err := r.all(etf.List{row, odd})
	require.NoError(t, err)
	require.Equal(t, want, got)

	for _, other := range []etf.Term{etf.Atom("x"), etf.Tuple{etf.Atom("x"), worker, etf.List{}}, etf.Tuple{tableRef}} {
		_, _, ok, err := read(other)
		require.NoError(t, err)
		require.False(t, ok)
	}
	for _, bad := range []etf.Term{
		etf.Tuple{tableRef, etf.Int(1), etf.List{}}, etf.Tuple{tableRef, worker, etf.Int(1)},
		etf.Tuple{tableRef, worker, etf.List{etf.Int(1)}}, etf.Tuple{tableRef, worker, etf.List{etf.Tuple{etf.Int(1)}}},
		etf.Tuple{tableRef, worker, etf.List{append(etf.Tuple{etf.Int(1)}, row[1:]...)}},
	} {
		_, _, _, err := read(bad)
		require.Error(t, err)
	}
	_, _, _, err = r.read([]byte{255})
	require.Error(t, err)
}

func TestFrame(t *testing.T) {
	r := &rowReader{mfas: map[mfa]string{}}
	at := etf.List{etf.Tuple{etf.Atom("file"), etf.String("a.erl")}, etf.Tuple{etf.Atom("line"), etf.Int(9)}}
	require.Equal(t, Frame{Function: "m:f/2", File: "a.erl", Line: 9},
		frame(r, etf.Tuple{etf.Atom("m"), etf.Atom("f"), etf.List{etf.Int(1), etf.Int(2)}, at}))
	require.Equal(t, Frame{}, frame(r, etf.Int(1)))
}

func TestRefs(t *testing.T) {
	n, err := node.New(node.Config{Name: "debughost-t@localhost"})
	require.NoError(t, err)
	m := New(Config{Node: n})
	in := &inspection{t: newTarget(m, Found{Node: "a@b"}, nil), pid: etf.Pid{Node: "a@b"}, self: "a@b"}
	for _, c := range []struct {
		term etf.Term
		want ProcessRef
	}{
		{etf.Pid{Node: "a@b", ID: 3}, ProcessRef{Kind: "process", Pid: "<0.3.0>"}},
		{etf.Pid{Node: "c@d", ID: 3}, ProcessRef{Kind: "process", Pid: "<0.3.0>", Node: "c@d"}},
		{etf.Port{Node: "a@b", ID: 4}, ProcessRef{Kind: "port", Pid: "#Port<0.4>"}},
		{etf.Port{Node: "c@d", ID: 4}, ProcessRef{Kind: "port", Pid: "#Port<0.4>", Node: "c@d"}},
		{etf.Atom("undefined"), ProcessRef{}},
		{etf.Atom("name"), ProcessRef{Kind: "name", RegisteredName: "name"}},
		{etf.Tuple{etf.Atom("process"), etf.Pid{Node: "a@b", ID: 5}}, ProcessRef{Kind: "process", Pid: "<0.5.0>"}},
		{etf.Tuple{etf.Atom("process"), etf.Tuple{etf.Atom("name"), etf.Atom("c@d")}}, ProcessRef{Kind: "name", RegisteredName: "name", Node: "c@d"}},
		{etf.Tuple{etf.Atom("name"), etf.Atom("a@b")}, ProcessRef{Kind: "name", RegisteredName: "name"}},
		{etf.Tuple{etf.Int(1)}, ProcessRef{}},
		{etf.Int(1), ProcessRef{}},
	} {
		require.Equal(t, c.want, in.ref(c.term), "%v", c.term)
	}
	many := make(etf.List, maxRefs+10)
	for i := range many {
		many[i] = etf.Pid{Node: "a@b", ID: uint32(i)}
	}
	require.Len(t, in.refs("links", many), maxRefs)
	require.Contains(t, in.out.Missing[0], "500 of 510")
}

func TestCounted(t *testing.T) {
	list, total, err := counted(etf.Tuple{etf.Atom("ok"), etf.Int(9), etf.List{etf.Int(1)}})
	require.NoError(t, err)
	require.Equal(t, 9, total)
	require.Len(t, list, 1)
	_, _, err = counted(etf.Atom("undefined"))
	require.ErrorIs(t, err, ErrNoProcess)
	_, _, err = counted(etf.Tuple{etf.Atom("refused"), etf.Int(5), etf.Int(100 << 20)})
	require.ErrorContains(t, err, "100 MB")
	for _, bad := range []etf.Term{etf.Tuple{etf.Int(1)}, etf.Tuple{etf.Atom("ok"), etf.Int(1), etf.Atom("x")}} {
		_, _, err = counted(bad)
		require.Error(t, err)
	}
}

func TestShownPids(t *testing.T) {
	var s shownPids
	require.Zero(t, s.creation(1, 0))
	s.note(etf.Pid{ID: 1, Creation: 7})
	require.Equal(t, uint32(7), s.creation(1, 0))
	for i := range uint32(shownMax) {
		s.note(etf.Pid{ID: 100 + i, Creation: 8})
	}
	require.Equal(t, uint32(7), s.creation(1, 0), "the generation before is still known")
	for i := range uint32(2 * shownMax) {
		s.note(etf.Pid{ID: 100 + i, Creation: 9})
	}
	require.Zero(t, s.creation(1, 0))
	require.LessOrEqual(t, len(s.at)+len(s.prev), 2*shownMax)
}

func TestSameEndpoint(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "localhost:1", true},
		{"[::1]:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"192.0.2.1:1", "127.0.0.1:1", false},
		{"192.0.2.1:1", "192.0.2.1:1", true},
		{"db1:1", "127.0.0.1:1", false},
		{"", "127.0.0.1:1", false},
		{"127.0.0.1:1", "nonsense", false},
	} {
		require.Equal(t, c.want, sameEndpoint(c.a, c.b), "%v", c)
	}
}

func TestLoadedKeeper(t *testing.T) {
	pid := etf.Pid{ID: 1}
	got, meter, ok := loadedKeeper(etf.Tuple{etf.Atom("value"), etf.Tuple{etf.Atom("ok"), pid, etf.Atom("m")}, etf.Map{}})
	require.True(t, ok)
	require.Equal(t, pid, got)
	require.Equal(t, etf.Term(etf.Atom("m")), meter)
	for _, bad := range []etf.Term{etf.Atom("x"), etf.Tuple{etf.Atom("value"), etf.Atom("x"), etf.Map{}}, etf.Tuple{etf.Atom("value"), etf.Tuple{etf.Atom("ok"), pid}, etf.Map{}}, etf.Tuple{etf.Atom("value"), etf.Tuple{etf.Atom("ok"), etf.Atom("x"), etf.Atom("m")}, etf.Map{}}} {
		_, _, ok := loadedKeeper(bad)
		require.False(t, ok)
	}
}
