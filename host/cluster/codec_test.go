package cluster

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMetaRoundTrip(t *testing.T) {
	m := meta{protocol: protocol, epoch: 1 << 60, id: "0a1b2c3d", version: "v1.2.3", machine: "vm 1"}
	b := m.append(nil)
	got, err := parseMeta(b)
	require.NoError(t, err)
	assert.Equal(t, m, got)
	for i := range b {
		_, err := parseMeta(b[:i])
		assert.Error(t, err, "cut at %d", i)
	}
	_, err = parseMeta(append(b, 0))
	assert.ErrorContains(t, err, "too many")
	later := meta{protocol: protocol + 1, epoch: 1}
	_, err = parseMeta(append(later.append(nil), "what we do not know"...))
	assert.NoError(t, err, "a later protocol")
	for _, bad := range []meta{{protocol: 0}, {protocol: 1, id: strings.Repeat("x", 65)}, {protocol: 1, version: "\x7f"}} {
		_, err := parseMeta(bad.append(nil))
		assert.Error(t, err)
	}
	_, err = parseMeta(make([]byte, metaMax+1))
	assert.Error(t, err)
}

func TestShareRoundTrip(t *testing.T) {
	s := share{
		view:   42,
		gone:   []claim{{name: "a", id: "1", addr: "10.0.0.1:1", epoch: 7, left: true, age: time.Hour}, {name: "b", epoch: 8}},
		buried: []burial{{"c", 9, time.Minute}},
	}
	b := s.append(nil)
	got, err := parseShare(b)
	require.NoError(t, err)
	assert.Equal(t, s, got)
	for i := range b {
		_, err := parseShare(b[:i])
		assert.Error(t, err, "cut at %d", i)
	}
	for name, bad := range map[string][]byte{
		"more":    append(s.append(nil), 0),
		"version": {2},
		"list":    {1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x7f},
		"name":    share{gone: []claim{{name: "a b"}}}.append(nil),
		"no name": share{buried: []burial{{}}}.append(nil),
		"age":     share{buried: []burial{{name: "a", age: 1 << 62}}}.append(nil),
		"truth":   append(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 'a', 0, 0}, make([]byte, 8)...), 2, 0, 0),
	} {
		_, err := parseShare(bad)
		assert.Error(t, err, name)
	}
	x := burial{"c", 9, time.Minute}
	y, err := parseMessage(x.message())
	require.NoError(t, err)
	assert.Equal(t, x, y)
	for _, bad := range []string{"", "\x01", "\x02\x01a", string(x.message()) + "x"} {
		_, err := parseMessage([]byte(bad))
		assert.Error(t, err)
	}
}

func TestHelloRoundTrip(t *testing.T) {
	h := hello{instance: [8]byte{1}, label: labelHash("x"), keys: [][4]byte{{1}, {2}}}
	b := h.append(nil)
	got, err := parseHello(b)
	require.NoError(t, err)
	assert.Equal(t, h, got)
	for i := range b {
		_, err := parseHello(b[:i])
		assert.Error(t, err)
	}
	_, err = parseHello(append(b, 0))
	assert.Error(t, err)
	_, err = parseHello([]byte("SSH-2.0"))
	assert.ErrorIs(t, err, errNoMember)

	o := h
	o.instance = [8]byte{2}
	assert.NoError(t, h.accepts(o))
	assert.ErrorIs(t, h.accepts(h), errSelf)
	o.keys = nil
	assert.ErrorContains(t, h.accepts(o), "it has none, this member 01000000, 02000000")
	o.label = labelHash("y")
	assert.ErrorContains(t, h.accepts(o), "label")
}

func TestShortError(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	assert.EqualError(t, shortError(refused), "connection refused")
	assert.ErrorIs(t, shortError(refused), syscall.ECONNREFUSED)
	assert.EqualError(t, shortError(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}), "no answer in time")
	assert.EqualError(t, shortError(errors.New("x")), "x")
}

func TestFirstUsableAddress(t *testing.T) {
	nets := func(all ...string) (out []net.Addr) {
		for _, a := range all {
			ip, n, err := net.ParseCIDR(a)
			require.NoError(t, err)
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out
	}
	for want, all := range map[string][]net.Addr{
		"10.0.0.1":    nets("127.0.0.1/8", "fe80::1/64", "fd00::1/64", "10.0.0.1/8", "10.0.0.2/8"),
		"fd00::1":     nets("::1/128", "169.254.0.1/16", "fd00::1/64", "fd00::2/64"),
		"127.0.0.1":   nets("127.0.0.1/8"),
		"192.168.1.9": append([]net.Addr{&net.UnixAddr{Name: "x"}}, nets("192.168.1.9/24")...),
	} {
		assert.Equal(t, want, firstUsable(all).String())
	}
}

func TestResolve(t *testing.T) {
	at, err := resolve(t.Context(), "[::ffff:10.0.0.1]:80", 1)
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.1:80", at[0].String())
	at, err = resolve(t.Context(), "10.0.0.1", 7)
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.1:7", at[0].String())
	at, err = resolve(t.Context(), "localhost:9", 7)
	require.NoError(t, err)
	assert.True(t, at[0].Addr().IsLoopback())
	_, err = resolve(t.Context(), "10.0.0.1:http", 7)
	assert.ErrorContains(t, err, "bad port")
}

func FuzzMeta(f *testing.F) {
	f.Add(meta{protocol: 1, epoch: 1, id: "0a1b2c3d", version: "v1", machine: "m"}.append(nil))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00later"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(b)
		if err != nil {
			return
		}
		again, err := parseMeta(m.append(nil))
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

func FuzzShare(f *testing.F) {
	f.Add(share{view: 1, gone: []claim{{name: "a", addr: "b:1", age: time.Second}}, buried: []burial{{"c", 1, 0}}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseShare(b)
		if err != nil {
			return
		}
		again, err := parseShare(s.append(nil))
		require.NoError(t, err)
		require.Equal(t, s, again)
		// Whatever it says, a table takes it.
		tab := newTable(Member{Name: "self"})
		tab.learn(t0, s.gone)
		for _, x := range s.buried {
			tab.bury(t0, x.name, x.epoch, t0.Add(-x.age))
		}
		require.LessOrEqual(t, len(tab.others), maxShared)
	})
}

func FuzzMessage(f *testing.F) {
	f.Add(burial{"a", 1, time.Second}.message())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseMessage(b)
		if err == nil {
			y, err := parseMessage(x.message())
			require.NoError(t, err)
			require.Equal(t, x, y)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{keys: [][4]byte{{1}}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err == nil {
			again, err := parseHello(h.append(nil))
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
	})
}

func FuzzKnown(f *testing.F) {
	f.Add([]byte(`{"members":[{"name":"a","id":"x","epoch":1,"address":"b:1","last_seen":"2026-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		known, err := parseKnown(b)
		require.True(t, err != nil || len(known.Members) <= maxKnown)
	})
}
