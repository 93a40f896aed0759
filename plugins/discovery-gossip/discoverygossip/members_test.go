package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMembersFindEachOther(t *testing.T) {
	config := group(t)
	a := watch(t, member("a", "127.0.0.1:7001", "s"), config)
	a.list()
	b := watch(t, member("b", "0.0.0.0:7002", "s", "old"), config)
	b.list("a=127.0.0.1:7001")
	a.list("b=127.0.0.1:7002")

	other := member("x", "127.0.0.1:7003", "s")
	other.Cluster = "d"
	x := watch(t, other, config)
	stranger := watch(t, member("y", "127.0.0.1:7004", "guess"), config)
	require.ErrorContains(t, stranger.err(), "not proven with this cluster's key")
	silent := watch(t, member("z", "", "s"), config) // does not know its address yet
	silent.list("a=127.0.0.1:7001", "b=127.0.0.1:7002")
	c := watch(t, member("c", "10.0.0.3:7003", "old", "s"), config+`, "exclude": ["a"]`)
	c.list("b=127.0.0.1:7002")
	b.list("a=127.0.0.1:7001", "c=10.0.0.3:7003")
	a.nothing("whose first secret is not known here is not listed")
	x.list()
	x.nothing("another cluster's members are not listed")
}

// Formation does not wait for an interval: who is new says so, and is answered.
func TestFormationIsFast(t *testing.T) {
	for what, configs := range formations(t) {
		t.Run(what, func(t *testing.T) {
			old := watch(t, member("old", "127.0.0.1:7001", "s"), configs[0]+`, "interval": "10m", "expiry": "1h"`)
			old.list()
			require.Eventually(t, func() bool { return old.sent.Load() > 0 }, patience, time.Millisecond)
			began := time.Now()
			fresh := watch(t, member("new", "127.0.0.1:7002", "s"), configs[1]+`, "interval": "10m", "expiry": "1h"`)
			fresh.list("old=127.0.0.1:7001")
			old.list("new=127.0.0.1:7002")
			t.Logf("both know of both after %v", time.Since(began))
		})
	}
}

// formations are configs for two members on one machine.
func formations(t testing.TB) map[string][2]string {
	multicast := group(t)
	broadcast := fmt.Sprintf(`"broadcast_only": true, "multicast_addr": "127.255.255.255", "multicast_if": "127.0.0.1", "port": %d`, freePort(t))
	one, two := freePort(t), freePort(t)
	return map[string][2]string{
		"multicast": {multicast, multicast},
		"broadcast": {broadcast, broadcast},
		// Only one of them lists the other.
		"unicast": {
			fmt.Sprintf(`"peers": ["127.0.0.1:%d"], "if_addr": "127.0.0.1", "port": %d`, freePort(t), one),
			fmt.Sprintf(`"peers": ["localhost:%d", "127.0.0.1:%[1]d"], "if_addr": "127.0.0.1", "port": %d`, one, two),
		},
	}
}

func TestMembersExpire(t *testing.T) {
	for what, configs := range formations(t) {
		t.Run(what, func(t *testing.T) {
			fast := `, "interval": "100ms", "expiry": "1s"`
			a := watch(t, member("a", "127.0.0.1:7001", "s"), configs[0]+fast)
			b := watch(t, member("b", "127.0.0.1:7002", "s"), configs[1]+fast)
			a.list("b=127.0.0.1:7002")
			b.list("a=127.0.0.1:7001")
			b.stop()
			a.list()
			b = watch(t, member("b", "127.0.0.1:7009", "s"), configs[1]+fast)
			a.list("b=127.0.0.1:7009")
			b.list("a=127.0.0.1:7001")
		})
	}
}

// Many at once, on one machine and one port.
func TestManyMembers(t *testing.T) {
	const n = 40
	config := group(t)
	var all []*watcher
	for i := range n {
		all = append(all, watch(t, member(fmt.Sprintf("m%02d", i), fmt.Sprintf("127.0.0.1:%d", 7000+i), "s"), config))
	}
	for i, w := range all {
		var want []string
		for j := range n {
			if j != i {
				want = append(want, fmt.Sprintf("m%02d=127.0.0.1:%d", j, 7000+j))
			}
		}
		w.list(want...)
	}
}

// What is told of a member changes while it is a member: its address becomes
// known, keys are changed. What was heard stays, and the Watch before may end
// after the next has begun.
func TestAnotherSelf(t *testing.T) {
	for what, configs := range formations(t) {
		t.Run(what, func(t *testing.T) {
			other := watch(t, member("w", "127.0.0.1:7000", "old", "new"), configs[0])
			s, err := configured(t, configs[1])
			require.NoError(t, err)
			one := watchWith(t, member("a", "", "old"), s)
			one.next() // of nobody, or of w if it has been heard already
			two := watchWith(t, member("a", "127.0.0.1:7001", "old"), s)
			other.list("a=127.0.0.1:7001")
			two.list("w=127.0.0.1:7000")
			one.stop()
			three := watchWith(t, member("a", "127.0.0.1:7001", "new", "old"), s)
			three.list("w=127.0.0.1:7000")
			two.stop()
			moved := member("a", "127.0.0.1:7009", "new", "old")
			moved.Incarnation = 2
			four := watchWith(t, moved, s)
			four.list("w=127.0.0.1:7000")
			other.list("a=127.0.0.1:7009")
			three.stop()
		})
	}
}

func TestForgedAndRepeatedPackets(t *testing.T) {
	config := group(t)
	w := watch(t, member("a", "127.0.0.1:7001", "s"), config)
	w.list()
	var b heartbeat
	packet := func(change func(*heartbeat), secret string) []byte {
		b = heartbeat{cluster: clusterOf("c"), incarnation: 5, time: time.Now().UnixNano(), member: "b", addr: "10.0.0.2:7002"}
		change(&b)
		return b.append(nil, secrets(secret)[0])
	}
	say(t, w.config, membersPort,
		packet(func(*heartbeat) {}, "guess"),
		[]byte("hello"), make([]byte, 3000),
		term(119, "shop@db1"),
		packet(func(h *heartbeat) { h.time -= int64(time.Hour) }, "s"),
	)
	err := w.err()
	require.ErrorContains(t, err, "no heartbeat that was heard could be taken")
	require.Contains(t, sdk.Hint(err), "cluster key")
	good := packet(func(*heartbeat) {}, "s")
	say(t, w.config, membersPort, good)
	w.list("b=10.0.0.2:7002") // and the error is gone
	earlier := packet(func(h *heartbeat) { h.incarnation, h.addr = 4, "10.0.0.9:1" }, "s")
	again := packet(func(h *heartbeat) { h.time -= int64(time.Second) }, "s")
	say(t, w.config, membersPort, good, earlier, again)
	require.Eventually(t, func() bool {
		w.membersRefused.mu.Lock()
		defer w.membersRefused.mu.Unlock()
		return w.membersRefused.total[errRepeated.Error()] == 1 && w.membersRefused.good == 2
	}, patience, time.Millisecond)
	w.nothing("what is forged changes nothing")
	w.membersRefused.mu.Lock()
	defer w.membersRefused.mu.Unlock()
	assert.Equal(t, map[string]uint64{
		errForged.Error(): 1, errMalformed.Error(): 3, errClock.Error(): 1, errRepeated.Error(): 1,
	}, w.membersRefused.total)
}

// Packets come from the interface that they are sent by, on a machine that has
// no other, too: their source stands in for addresses that mean the machine.
func TestPacketsComeFromTheirInterface(t *testing.T) {
	s, err := configured(t, group(t))
	require.NoError(t, err)
	spy := newSpy(t, s.config)
	say(t, s.config, targetsPort, []byte("hello"))
	_, from, err := spy.read(make([]byte, 10))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", from.Addr().String())
}

// A flood is told of once, with numbers.
func TestRefusedIsLoggedSeldom(t *testing.T) {
	var r refused
	now := time.Unix(1000, 0)
	text, _ := r.due(now)
	require.Empty(t, text)
	for range 1000 {
		r.add(errForged, "10.0.0.1:1")
		r.add(errMalformed, "10.0.0.2:2")
	}
	text, source := r.due(now)
	require.Equal(t, "1000 not a heartbeat, 1000 not proven with this cluster's key", text)
	require.Equal(t, "10.0.0.2:2", source)
	r.add(errForged, "10.0.0.1:1")
	text, _ = r.due(now.Add(logEvery - 1))
	require.Empty(t, text)
	text, _ = r.due(now.Add(logEvery))
	require.Equal(t, "1 not proven with this cluster's key", text)
	text, _ = r.due(now.Add(3 * logEvery))
	require.Empty(t, text)
	require.ErrorIs(t, r.only(), errForged)
	r.took()
	require.NoError(t, r.only())
}

func TestRefusedReachesTheLog(t *testing.T) {
	s, err := configured(t, group(t))
	require.NoError(t, err)
	lines := make(chan string, 100)
	s.log = hclog.New(&hclog.LoggerOptions{Output: writer(func(b []byte) { lines <- string(b) })})
	w := watchWith(t, member("a", "127.0.0.1:7001", "s"), s)
	w.list()
	say(t, s.config, membersPort, []byte("hello"), heartbeat{cluster: clusterOf("d"), member: "b", addr: "h:1"}.append(nil, secrets("x")[0]))
	got := <-lines + <-lines
	require.Contains(t, got, "packets refused")
	require.Contains(t, got, "1 not a heartbeat")
	require.Contains(t, got, "another cluster")
	require.NotContains(t, got, "proven")
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestWhatCannotBeDone(t *testing.T) {
	config := group(t)
	noSecret := member("a", "127.0.0.1:7001")
	noName := member("a b", "127.0.0.1:7001", "s")
	for what, c := range map[string]struct {
		self         sdk.Self
		config, want string
	}{
		"no key":           {noSecret, config, "no secret"},
		"no name":          {noName, config, "announce this member"},
		"no port":          {member("a", "127.0.0.1:0", "s"), config, "announce this member"},
		"long name":        {member(strings.Repeat("ö", 200), "127.0.0.1:1", "s"), config, "announce this member"},
		"a secret file":    {member("a", "127.0.0.1:7001", "s"), config + `, "secret_file": "x"`, "secret_file is for targets"},
		"peers of targets": {sdk.Self{}, `"peers": ["b"]`, "peers is for members"},
		"unknown role":     {sdk.Self{Finds: "17"}, config, `role "17"`},
	} {
		s, err := configured(t, c.config)
		require.NoError(t, err)
		err = s.Watch(sdk.WithSelf(t.Context(), c.self), func(sdk.Answer) error { return nil })
		require.ErrorContains(t, err, c.want, what)
	}
	w := watch(t, member("a", "127.0.0.1:7001", "s"), `"multicast_if": "nonesuch"`)
	require.ErrorContains(t, w.err(), "nonesuch")

	// A port that another program has; when it is free, all is well.
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := c.LocalAddr().(*net.UDPAddr).Port
	w = watch(t, member("a", "127.0.0.1:7001", "s"), fmt.Sprintf(`"peers": ["127.0.0.1:1"], "if_addr": "127.0.0.1", "port": %d`, port))
	err = w.err()
	require.ErrorContains(t, err, "address already in use")
	require.Contains(t, sdk.Hint(err), "a port of its own")
	require.NoError(t, c.Close())
	w.list()
	shared := watch(t, member("a", "127.0.0.1:7001", "s"), fmt.Sprintf(`"broadcast_only": true, "multicast_addr": "203.0.113.255", "port": %d`, freePort(t)))
	shared.list() // no interface has that address
}

func TestBeats(t *testing.T) {
	at := time.Unix(1000, 0)
	b := &beats{interval: 10 * time.Second, random: func() float64 { return 0.5 }}
	var got []time.Duration
	for range 6 {
		hello := b.hello()
		require.Equal(t, len(got) <= 3, hello)
		d := b.next(at)
		got = append(got, d)
		at = at.Add(d)
	}
	require.Equal(t, []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 10 * time.Second}, got)
	require.Equal(t, 5*time.Second, b.next(at.Add(time.Hour)), "after a sleep it does not catch up")
	for range 100 { // whatever the chance, one in each interval
		b := &beats{interval: time.Second, random: func() float64 { return 0.999 }, n: 10}
		require.Less(t, b.next(at), time.Second)
	}
}

func TestPeersAreLookedUp(t *testing.T) {
	conn, err := listenOne(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	defer conn.Close()
	s, err := configured(t, `"peers": ["one:1", "two", "10.0.0.3"]`)
	require.NoError(t, err)
	f := newFew(conn, s.config)
	answers := map[string][]netip.Addr{"one": {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.2")}}
	f.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		if a := answers[host]; a != nil {
			return a, nil
		}
		return nil, &net.DNSError{Err: "no such host", Server: "changes"}
	}
	f.resolve(t.Context())
	known := func() (all []string) {
		for _, k := range f.known {
			all = append(all, k.String())
		}
		return all
	}
	require.EqualError(t, f.lookupErr(), "look up peer two: no such host")
	require.Equal(t, []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:45893"}, known())
	delete(answers, "one")
	f.resolve(t.Context())
	require.Equal(t, []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:45893"}, known(), "what cannot be looked up stays")
	answers = map[string][]netip.Addr{"one": {netip.MustParseAddr("fd00::1")}, "two": {netip.MustParseAddr("10.0.0.4")}}
	f.resolve(t.Context())
	require.NoError(t, f.lookupErr())
	require.Equal(t, []string{"10.0.0.3:45893", "10.0.0.4:45893", "[fd00::1]:1"}, known())
	require.EqualError(t, lookupCause(errors.New("x")), "x")

	from := netip.MustParseAddrPort("127.0.0.1:9")
	f.known = nil
	f.heard(from, time.Now().Add(-time.Hour))
	require.NoError(t, f.say([]byte("x")))
	require.Empty(t, f.from, "who was not heard is not spoken to")
	for i := range maxHeard + 1 {
		f.heard(netip.AddrPortFrom(from.Addr(), uint16(i+1)), time.Now())
	}
	require.Len(t, f.from, maxHeard)
	require.Error(t, f.reply(make([]byte, 70_000), from))
}

func TestBoardIsBounded(t *testing.T) {
	b := newBoard(time.Minute)
	now := time.Unix(1000, 0)
	for i := range maxHeard {
		_, full := b.note(sdk.Node{Name: fmt.Sprintf("n%d@h", i)}, 0, now)
		require.False(t, full)
	}
	_, full := b.note(sdk.Node{Name: "one@more"}, 0, now)
	require.True(t, full)
	_, full = b.note(sdk.Node{Name: "n0@h"}, 0, now.Add(30*time.Second))
	require.False(t, full)
	b.expire(now.Add(time.Minute))
	a, _, _, _ := b.answer()
	require.Equal(t, []string{"n0@h"}, listed(a))
	// Of two with one name the one that was started last is listed.
	b.note(sdk.Node{Name: "a", Addr: "h:1"}, 2, now)
	b.note(sdk.Node{Name: "a", Addr: "h:2"}, 1, now)
	a, _, _, _ = b.answer()
	require.Equal(t, "h:1", a.Nodes[slices.IndexFunc(a.Nodes, func(n sdk.Node) bool { return n.Name == "a" })].Addr)
}

func TestEmitEndsTheWatch(t *testing.T) {
	s, err := configured(t, group(t))
	require.NoError(t, err)
	enough := errors.New("enough")
	err = s.Watch(sdk.WithSelf(t.Context(), member("a", "127.0.0.1:7001", "s")), func(sdk.Answer) error { return enough })
	require.ErrorIs(t, err, enough)
}
