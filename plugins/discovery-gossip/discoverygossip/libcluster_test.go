package discoverygossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// libcluster starts a node that sends and hears heartbeats as one with
// libcluster's strategy Gossip does. options are fields of an Elixir map.
func libcluster(t *testing.T, otp string, port int, options string) *erltest.Beam {
	t.Helper()
	file, err := filepath.Abs("testdata/heartbeats.exs")
	require.NoError(t, err)
	node := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true, Cookie: "of_the_cluster"})
	_, err = node.EvalElixir(fmt.Sprintf(`
		{:ok, _} = Application.ensure_all_started(:crypto)
		Code.compile_file(%q)
		{:ok, _} = apply(GenServer, :start, [Heartbeats, Map.merge(%%{port: %d, group: nil, secret: nil}, %%{%s})])
		:ok`, file, port, options))
	require.NoError(t, err)
	return node
}

// erlangIP writes an address as Erlang does.
func erlangIP(addr string) string { return "{" + strings.ReplaceAll(addr, ".", ", ") + "}" }

// spy hears all that is sent to an address of many: from where, and what.
type spy struct {
	*ears
	from    map[netip.AddrPort]int
	packets [][]byte
}

func newSpy(t *testing.T, c Config) *spy {
	t.Helper()
	list, _, _, err := nics()
	require.NoError(t, err)
	e, err := listenMany(t.Context(), c.to(targetsPort), list)
	require.NoError(t, err)
	t.Cleanup(e.close)
	return &spy{ears: e, from: map[netip.AddrPort]int{}}
}

// drain reads what there is.
func (s *spy) drain(t *testing.T) {
	t.Helper()
	require.NoError(t, s.conn.SetReadDeadline(time.Now().Add(quiet)))
	for {
		b := make([]byte, maxPacket)
		n, from, err := s.read(b)
		if err != nil {
			return
		}
		s.from[from]++
		s.packets = append(s.packets, b[:n])
	}
}

// Real nodes with heartbeats as libcluster has them, of each release, plain and with a
// secret: they are found, nothing is ever sent to them, and they connect to
// each other and to nobody else.
func TestLibclusterNodes(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("some password\n"), 0o600))
	for _, otp := range []string{"25", "27", "29"} {
		for what, with := range map[string][2]string{
			"plain":  {"", ""},
			"secret": {`, secret: "some password"`, fmt.Sprintf(`, "secret_file": %q`, secret)},
		} {
			t.Run(otp+" "+what, func(t *testing.T) {
				config := group(t)
				s, err := configured(t, config)
				require.NoError(t, err)
				spy := newSpy(t, s.config)
				w := watch(t, sdk.Self{Finds: sdk.RoleTarget}, config+with[1])
				options := fmt.Sprintf("group: %s, to: %[1]s, interface: {127, 0, 0, 1}%s", erlangIP(s.config.MulticastAddr), with[0])
				one := libcluster(t, otp, s.config.Port, options)
				w.list(one.Name)
				two := libcluster(t, otp, s.config.Port, options)
				for a := w.next(); len(a.Nodes) < 2; a = w.next() {
					require.NoError(t, a.Err)
				}
				alone := "nodes(connected) =:= ['" + two.Name + "']"
				one.Await(t, alone, "true")
				w.stop()
				require.Equal(t, "true", one.MustEval(t, alone), "they are not told of anybody else")
				spy.drain(t)
				key, err := w.config.libclusterKey()
				require.NoError(t, err)
				require.NotEmpty(t, spy.packets)
				for _, p := range spy.packets {
					sender, err := hearLibcluster(p, key)
					require.NoError(t, err)
					require.Contains(t, []string{one.Name, two.Name}, sender, "only the two nodes have sent")
				}
				w.targetsRefused.mu.Lock()
				defer w.targetsRefused.mu.Unlock()
				require.Empty(t, w.targetsRefused.total)
			})
		}
	}
}

// The other side of the same: heartbeats of a broadcasting node.
func TestLibclusterBroadcast(t *testing.T) {
	port := freePort(t)
	w := watch(t, sdk.Self{}, fmt.Sprintf(`"port": %d, "broadcast_only": true, "multicast_addr": "127.255.255.255"`, port))
	node := libcluster(t, erltest.Newest(), port, "to: {127, 255, 255, 255}")
	w.list(node.Name)
}

func TestTargetsComeAndGo(t *testing.T) {
	config := group(t)
	w := watch(t, sdk.Self{Finds: sdk.RoleTarget}, config+`, "settle": "0s", "expiry": "5s", "exclude": ["bank"]`)
	w.list() // when it has listened for long enough
	hear := func(names ...string) {
		for _, name := range names {
			say(t, w.config, targetsPort, term(100, name))
		}
	}
	hear("shop@db1", "nonode@nohost", "debughost-12@db1", "bank@db1")
	w.list("shop@db1")
	hear("stock@db2")
	w.list("shop@db1", "stock@db2")
	w.list() // both are silent
	hear("stock@db2")
	w.list("stock@db2")
}

// Before it has listened for a while, nothing heard does not mean that there
// is nobody.
func TestTargetsSettle(t *testing.T) {
	config := group(t)
	s, err := configured(t, config)
	require.NoError(t, err)
	w := watchWith(t, sdk.Self{}, s)
	w.nothing("too early for an answer")
	w.stop()
	w = watchWith(t, sdk.Self{}, s)
	say(t, s.config, targetsPort, term(119, "shop@db1"))
	require.Eventually(t, func() bool { return s.targets.size() > 0 || saidAgain(t, s) }, patience, 50*time.Millisecond)
	w.list("shop@db1")
	// The next watch begins with what is known.
	w.stop()
	watchWith(t, sdk.Self{}, s).list("shop@db1")
}

func saidAgain(t *testing.T, s *Strategy) bool {
	say(t, s.config, targetsPort, term(119, "shop@db1"))
	return false
}

func TestTargetsWithAnotherSecret(t *testing.T) {
	dir := t.TempDir()
	config := group(t)
	secret := filepath.Join(dir, "secret")
	w := watch(t, sdk.Self{}, config+fmt.Sprintf(`, "secret_file": %q`, secret))
	require.ErrorIs(t, w.err(), os.ErrNotExist)
	require.NoError(t, os.WriteFile(secret, nil, 0o600))
	require.ErrorContains(t, w.err(), "it is empty")
	require.NoError(t, os.WriteFile(secret, make([]byte, maxSecret+1), 0o600))
	require.ErrorContains(t, w.err(), "too long")
	require.NoError(t, os.WriteFile(secret, []byte("right\n"), 0o600))

	until := func(w *watcher, want string, packet []byte) {
		t.Helper()
		require.Eventually(t, func() bool {
			say(t, w.config, targetsPort, packet)
			for {
				select {
				case a := <-w.answers:
					if a.Err != nil && strings.Contains(a.Err.Error(), want) || a.Err == nil && want == "" {
						return true
					}
				default:
					return false
				}
			}
		}, patience, 20*time.Millisecond, want)
	}
	until(w, "cannot be decrypted", encrypt(t, term(100, "shop@db1"), "wrong"))
	until(w, "", encrypt(t, term(100, "shop@db1"), "right"))
	w.stop()
	plain := watch(t, sdk.Self{}, config)
	until(plain, "encrypted", encrypt(t, term(100, "shop@db1"), "right"))
	plain.stop()
	until(watch(t, sdk.Self{}, config+fmt.Sprintf(`, "secret_file": %q`, secret)), "not encrypted", term(100, "shop@db1"))
}

// A strategy that finds targets never sends, whatever it hears and is told of
// itself: to the group, to who sent, or to anybody.
func TestTargetsAreNeverSpokenTo(t *testing.T) {
	config := group(t)
	s, err := configured(t, config)
	require.NoError(t, err)
	spy := newSpy(t, s.config)
	self := member("a", "127.0.0.1:7001", "s")
	self.Finds = sdk.RoleTarget
	w := watchWith(t, self, s)
	// This one speaks from a socket at which it would hear an answer.
	out, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer out.Close()
	hello := heartbeat{cluster: clusterOf("c"), time: time.Now().UnixNano(), hello: true, member: "b", addr: out.LocalAddr().String()}
	to := net.UDPAddrFromAddrPort(s.config.to(targetsPort))
	list, _, _, err := nics()
	require.NoError(t, err)
	lo, err := pick(list, "127.0.0.1")
	require.NoError(t, err)
	require.NoError(t, setMulticastInterface(out, &lo[0].Interface))
	sent := 0
	require.Eventually(t, func() bool {
		for _, p := range [][]byte{term(100, "shop@db1"), hello.append(nil, secrets("s")[0]), []byte("hello")} {
			_, err := out.WriteTo(p, to)
			require.NoError(t, err)
			sent++
		}
		return s.targets.size() > 0
	}, patience, 20*time.Millisecond)
	w.list("shop@db1")
	spy.drain(t)
	require.Equal(t, map[netip.AddrPort]int{out.LocalAddr().(*net.UDPAddr).AddrPort(): sent}, spy.from)
	require.NoError(t, out.SetReadDeadline(time.Now().Add(quiet)))
	_, from, err := out.ReadFrom(make([]byte, 10))
	require.Error(t, err, "an answer of %v", from)
}
