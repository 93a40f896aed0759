package discoveryepmd

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func member(name, addr string, secretTexts ...string) sdk.Self {
	return sdk.Self{Member: name, Addr: addr, Cluster: "c", Finds: sdk.RoleMember, Secrets: secrets(secretTexts...), Incarnation: 1}
}

// watchAs runs a strategy of its own for a member.
func watchAs(t *testing.T, self sdk.Self, config string, args ...any) *watcher {
	t.Helper()
	s, err := configured(t, config, args...)
	require.NoError(t, err)
	return watchWith(t, sdk.WithSelf(context.Background(), self), s)
}

// addresses waits for an answer without an error that lists exactly these
// members, each as name=host:port.
func (w *watcher) addresses(want ...string) {
	w.t.Helper()
	for {
		a := w.next()
		got := []string{}
		for _, n := range a.Nodes {
			assert.Equal(w.t, sdk.RoleMember, n.Role)
			got = append(got, n.Name+"="+n.Addr)
		}
		slices.Sort(got)
		if a.Err == nil && slices.Equal(got, want) {
			return
		}
		w.t.Logf("on the way to %v: %v, %v", want, got, a.Err)
	}
}

// launchEPMD is a real EPMD for the test.
func launchEPMD(t *testing.T, otp string) *erltest.EPMD {
	t.Helper()
	e, err := erltest.LaunchEPMD(otp)
	require.NoError(t, err)
	t.Cleanup(e.Kill)
	e.Setenv(t)
	return e
}

// registered waits until EPMD knows just these numbers of members and others.
func registered(t *testing.T, e *erltest.EPMD, count int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, e.WaitNames(ctx, func(m map[string]int) bool { return len(m) == count }))
	names, err := e.Names()
	require.NoError(t, err)
	return slices.Sorted(maps.Keys(names))
}

func TestMembersFindEachOther(t *testing.T) {
	launchEPMD(t, erltest.Newest())
	a := watchAs(t, member("a", "127.0.0.1:7001", "s"), `{%s}`, fast)
	a.addresses()
	b := watchAs(t, member("b", "10.0.0.2:7002", "s"), `{%s}`, fast)
	b.addresses("a=127.0.0.1:7001") // in its first answer: a was there before
	a.addresses("b=10.0.0.2:7002")

	other := member("x", "127.0.0.1:7003", "s")
	other.Cluster = "d"
	watchAs(t, other, `{%s}`, fast).addresses()
	watchAs(t, member("y", "127.0.0.1:7004", "t"), `{%s}`, fast).addresses()
	c := watchAs(t, member("c", "0.0.0.0:7005", "s"), `{%s}`, fast)
	c.addresses("a=127.0.0.1:7001", "b=10.0.0.2:7002")
	a.addresses("b=10.0.0.2:7002", "c=127.0.0.1:7005")
	d := watchAs(t, member("d", "127.0.0.1:7006", "s"), `{%s, "exclude": ["b"], "linger": "0s"}`, fast)
	d.addresses("a=127.0.0.1:7001", "c=127.0.0.1:7005")

	c.stop()
	d.addresses("a=127.0.0.1:7001")
	watch(t, `{%s}`, fast).names() // none is a target
}

func TestMembersByConfig(t *testing.T) {
	e := launchEPMD(t, erltest.Newest())
	watchAs(t, member("a", "127.0.0.1:7001"), `{%s}`, fast).addresses()
	watchAs(t, member("b", "127.0.0.1:7002"), `{%s}`, fast).addresses("a=127.0.0.1:7001")
	watchAs(t, member("c", "127.0.0.1:7003"), `{%s, "hosts": ["127.0.0.1:%d"]}`, fast, e.Port).addresses("a=127.0.0.1:7001", "b=127.0.0.1:7002")
	watchAs(t, member("d", "127.0.0.1:7004"), `{%s, "nodes": ["b@localhost"]}`, fast).addresses("b=127.0.0.1:7002")
	w := watchAs(t, member("e", "127.0.0.1:7005"), `{%s, "hosts_file": "/nonexistent"}`, fast)
	require.ErrorContains(t, w.next().Err, "/nonexistent")
}

// Two lives of one name, and two members of one name.
func TestMembersOfOneName(t *testing.T) {
	launchEPMD(t, erltest.Newest())
	w := watchAs(t, member("w", "127.0.0.1:7000"), `{%s, "linger": "1h"}`, fast)
	w.addresses()
	old := watchAs(t, member("a", "127.0.0.1:7001"), `{%s}`, fast)
	w.addresses("a=127.0.0.1:7001")
	old.addresses("w=127.0.0.1:7000")
	old.stop()
	watchAs(t, member("a", "127.0.0.1:7002"), `{%s}`, fast)
	w.addresses("a=127.0.0.1:7002") // not the lingering one
	watchAs(t, member("w", "127.0.0.1:7000"), `{%s}`, fast).addresses("a=127.0.0.1:7002")
	watchAs(t, member("w", "127.0.0.1:7009"), `{%s}`, fast).addresses("a=127.0.0.1:7002", "w=127.0.0.1:7000")
}

func TestRegistrationSurvivesEPMD(t *testing.T) {
	e := launchEPMD(t, erltest.Newest())
	a := watchAs(t, member("a", "127.0.0.1:7001", "s"), `{%s}`, fast)
	b := watchAs(t, member("b", "127.0.0.1:7002", "s"), `{%s}`, fast)
	b.addresses("a=127.0.0.1:7001")
	a.addresses("b=127.0.0.1:7002")
	e.Kill()
	answer := a.next()
	require.Equal(t, []string{"b"}, sorted(answer.Nodes), "the last answer stays")
	require.ErrorContains(t, answer.Err, "connection refused")
	require.Equal(t, 1, strings.Count(answer.Err.Error(), "refused"), "one cause is told once: %v", answer.Err)
	require.Error(t, b.next().Err)
	require.NoError(t, e.Restart())
	a.addresses("b=127.0.0.1:7002")
	b.addresses("a=127.0.0.1:7001")
	require.Len(t, registered(t, e, 2), 2)
	a.stop()
	registered(t, e, 1)
}

// What is said of a member changes without its vanishing from EPMD, and the
// Watch before may end after the next has begun.
func TestAnotherSelf(t *testing.T) {
	e := launchEPMD(t, erltest.Newest())
	w := watchAs(t, member("w", "127.0.0.1:7000", "new", "old"), `{%s, "linger": "0s"}`, fast)
	w.addresses()
	s, err := configured(t, `{%s}`, fast)
	require.NoError(t, err)
	begin := func(self sdk.Self) *watcher { return watchWith(t, sdk.WithSelf(context.Background(), self), s) }

	one := begin(member("a", "", "old"))
	one.addresses() // w shows itself by a secret that is not known here
	names := registered(t, e, 1)
	two := begin(member("a", "127.0.0.1:7001", "old"))
	one.stop()
	w.addresses("a=127.0.0.1:7001")
	require.Subset(t, registered(t, e, 2), names)
	three := begin(member("a", "127.0.0.1:7001", "new", "old"))
	three.addresses("w=127.0.0.1:7000")
	two.stop()
	four := begin(member("a", "127.0.0.1:7001", "new"))
	four.addresses("w=127.0.0.1:7000")
	three.stop()
	registered(t, e, 2)
	five := begin(member("a", "127.0.0.1:7009", "new"))
	w.addresses("a=127.0.0.1:7009")
	four.stop()
	six := begin(member("a", "", "new"))
	w.addresses()
	five.stop()
	registered(t, e, 1)
	six.stop()
}

func TestNameIsTaken(t *testing.T) {
	e := launchEPMD(t, erltest.Newest())
	self := member("a", "127.0.0.1:7001")
	client := &epmd.Client{Port: e.Port}
	var strangers []*epmd.Registration
	for n := range sparePlaces {
		r, err := client.Register(t.Context(), registration(self, 1, n, []byte("not an announcement")))
		require.NoError(t, err)
		defer r.Close()
		strangers = append(strangers, r)
	}
	w := watchAs(t, self, `{%s}`, fast)
	a := w.next()
	require.ErrorIs(t, a.Err, epmd.ErrNameTaken)
	require.NotEmpty(t, sdk.Hint(a.Err))
	require.NoError(t, strangers[2].Close())
	w.addresses()
}

func TestWhatCannotBeAnnounced(t *testing.T) {
	launchEPMD(t, erltest.Newest())
	for addr, want := range map[string]string{
		"10.0.0.1":                         "missing port",
		"10.0.0.1:gossip":                  "not a number",
		strings.Repeat("x", 250) + ":7946": "at most 255 fit",
	} {
		require.ErrorContains(t, watchAs(t, member("a", addr), `{%s}`, fast).next().Err, want)
	}
	s, err := configured(t, `{%s}`, fast)
	require.NoError(t, err)
	err = s.Watch(sdk.WithSelf(t.Context(), sdk.Self{Finds: "17"}), func(sdk.Answer) error { return nil })
	require.ErrorContains(t, err, `role "17"`)
}

// A strategy that finds targets asks EPMD for names and never for anything else.
func TestTargetsAreNotToldOfUs(t *testing.T) {
	e := erltest.StartFakeEPMD(t)
	e.Setenv(t)
	requests := make(chan byte, 100)
	e.Answer(func(request []byte) []byte {
		requests <- request[0]
		return []byte("\x00\x00\x11\x11name shop at port 1\nname debughost-x at port 2\n")
	})
	self := member("a", "127.0.0.1:7001", "s")
	self.Finds = sdk.RoleTarget
	watchAs(t, self, `{%s}`, fast).names("shop@box")
	for range 5 {
		require.Equal(t, byte('n'), <-requests)
	}
}

// hostile is an EPMD on another machine that answers what it likes.
func hostile(t *testing.T, extras map[string][]byte) *Strategy {
	t.Helper()
	e := erltest.StartFakeEPMD(t)
	e.Answer(func(request []byte) []byte {
		switch request[0] {
		case 'n':
			out := []byte{0, 0, 0x11, 0x11}
			for name := range extras {
				out = fmt.Appendf(out, "name %s at port 7001\n", name)
			}
			return out
		case 'z':
			name := string(request[1:])
			extra, ok := extras[name]
			if !ok || extra == nil {
				return []byte{'w', 1}
			}
			out := []byte{'w', 0, 0x1b, 0x59, 72, 0, 0, 6, 0, 6}
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(name))), name...)
			return append(binary.BigEndian.AppendUint16(out, uint16(len(extra))), extra...)
		}
		return []byte{'v', 0, 0, 0, 0, 7} // ALIVE2
	})
	s, err := configured(t, `{%s, "hosts": ["db1"], "linger": "0s"}`, fast)
	require.NoError(t, err)
	s.members.client.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, e.Addr())
	}
	return s
}

func TestMembersOfAnotherMachine(t *testing.T) {
	says := func(member, addr, secret string) []byte {
		text, err := announcement{cluster: "c", member: member, addr: addr}.encode(secrets(secret))
		require.NoError(t, err)
		return text
	}
	many := map[string][]byte{
		"debughost-loop": says("loop", "127.0.0.1:7001", "s"),
		"debughost-any":  says("any", "[::]:7002", "s"),
		"debughost-real": says("real", "10.0.0.3:7003", "s"),
		"debughost-evil": says("evil", "10.0.0.9:22", "guess"),
		"debughost-old":  {},
		"debughost-text": []byte("hello"),
		"debughost-long": []byte(strings.Repeat("x", 60_000)),
		"debughost-gone": nil,
		"shop":           says("shop", "10.0.0.3:7003", "s"),
	}
	s := hostile(t, many)
	w := watchWith(t, sdk.WithSelf(context.Background(), member("a", "127.0.0.1:7000", "s")), s)
	for a := w.next(); ; a = w.next() { // the long one breaks the protocol, and hides nobody
		if len(a.Nodes) != 3 {
			continue
		}
		require.ErrorIs(t, a.Err, epmd.ErrProtocol)
		require.Equal(t, []string{"any", "loop", "real"}, sorted(a.Nodes))
		for i, addr := range []string{"db1:7002", "db1:7001", "10.0.0.3:7003"} {
			require.Equal(t, addr, a.Nodes[i].Addr)
		}
		return
	}
}

func TestNamesWithoutEndCostLittle(t *testing.T) {
	many := map[string][]byte{}
	for i := range 3 * maxPlaces {
		many[fmt.Sprintf("debughost-%04d", i)] = []byte("hello")
	}
	s := hostile(t, many)
	nodes, err := s.members.list(t.Context(), member("a", "127.0.0.1:7000", "s"))
	require.NoError(t, err)
	require.Empty(t, nodes)
	require.Len(t, s.members.places["db1"], maxPlaces)
}

// A BEAM node sees a member among EPMD's names and may connect to it: libcluster
// does. It fails at once, and the node's log says nothing.
func TestNodesAreNotHarmed(t *testing.T) {
	for _, otp := range []string{"25", "27", "29"} {
		t.Run(otp, func(t *testing.T) {
			e := launchEPMD(t, otp)
			// What listens at a member's address hangs up on what it does not know.
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					_, _ = c.Read(make([]byte, 1))
					_ = c.Close()
				}
			}()
			w := watchAs(t, member("a", l.Addr().String(), "s"), `{%s}`, fast)
			w.addresses()
			node := erltest.Start(t, erltest.Options{OTP: otp, EPMD: e, Name: "shop"})
			name := registered(t, e, 2)[0]
			require.True(t, strings.HasPrefix(name, "debughost-a-"), name)
			require.Equal(t, "true", node.MustEval(t, fmt.Sprintf(`lists:keymember(%q, 1, element(2, erl_epmd:names()))`, name)))
			began := time.Now()
			require.Equal(t, "{false,pang}", node.MustEval(t, fmt.Sprintf(`{net_kernel:connect_node('%s@localhost'), net_adm:ping('%[1]s@localhost')}`, name)))
			require.Less(t, time.Since(began), 6*time.Second, "a node gives up after seven")
			require.Equal(t, "[]", node.MustEval(t, "nodes(connected)"))
			require.Empty(t, node.Log())
			watch(t, `{%s}`, fast).names("shop@box")
			w.stop()
			registered(t, e, 1)
		})
	}
}
