package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 30 * time.Second

func secrets(texts ...string) (all []sdk.Secret) {
	for _, s := range texts {
		all = append(all, sdk.NewSecret([]byte(s)))
	}
	return all
}

func member(name, addr string, secretTexts ...string) sdk.Self {
	return sdk.Self{Member: name, Addr: addr, Cluster: "c", Finds: sdk.RoleMember, Secrets: secrets(secretTexts...), Incarnation: 1}
}

// freePort is a UDP port that nobody has now.
func freePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", "0.0.0.0:0")
	require.NoError(t, err)
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// group is the config of a multicast group that no other test has, on this
// machine alone.
func group(t testing.TB) string {
	return fmt.Sprintf(`"multicast_if": "127.0.0.1", "multicast_addr": "239.255.%d.%d", "port": %d`, rand.IntN(256), rand.IntN(256), freePort(t))
}

// configured is the strategy with a config over its defaults.
func configured(t testing.TB, config string) (*Strategy, error) {
	t.Helper()
	s := New("1").(*Strategy)
	if err := sdk.DecodeConfig([]byte("{"+config+"}"), s.Describe().Config); err != nil {
		return s, err
	}
	return s, s.Configured(t.Context())
}

type watcher struct {
	*Strategy
	t       testing.TB
	answers chan sdk.Answer
	stop    func()
}

// watch runs a strategy of its own until the test ends.
func watch(t testing.TB, self sdk.Self, config string) *watcher {
	t.Helper()
	s, err := configured(t, config)
	require.NoError(t, err)
	return watchWith(t, self, s)
}

func watchWith(t testing.TB, self sdk.Self, s *Strategy) *watcher {
	ctx, cancel := context.WithCancel(sdk.WithSelf(context.Background(), self))
	w := &watcher{Strategy: s, t: t, answers: make(chan sdk.Answer, 1000)}
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(a sdk.Answer) error {
			if err := sdk.ValidateNodes(a.Nodes); err != nil {
				t.Errorf("emit: %v", err)
			}
			w.answers <- a
			return nil
		})
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("watch ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("watch does not end")
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *watcher) next() sdk.Answer {
	w.t.Helper()
	select {
	case a := <-w.answers:
		return a
	case <-time.After(patience):
		w.t.Fatal("no answer")
		panic("not reached")
	}
}

// list waits for an answer without an error that lists exactly these, members
// as name=host:port.
func (w *watcher) list(want ...string) {
	w.t.Helper()
	for {
		a := w.next()
		got := listed(a)
		if a.Err == nil && slices.Equal(got, want) {
			return
		}
		w.t.Logf("on the way to %v: %v, %v", want, got, a.Err)
	}
}

func listed(a sdk.Answer) []string {
	got := []string{}
	for _, n := range a.Nodes {
		name := n.Name
		if n.Role == sdk.RoleMember {
			name += "=" + n.Addr
		}
		got = append(got, name)
	}
	slices.Sort(got)
	return got
}

// err waits for an answer with an error.
func (w *watcher) err() error {
	w.t.Helper()
	for {
		if a := w.next(); a.Err != nil {
			return a.Err
		}
	}
}

// quiet is the time in which nothing must happen that would happen at once.
const quiet = 300 * time.Millisecond

func (w *watcher) nothing(what string) {
	w.t.Helper()
	select {
	case a := <-w.answers:
		w.t.Errorf("%s: %v, %v", what, listed(a), a.Err)
	case <-time.After(quiet):
	}
}

// say sends packets to where a config listens.
func say(t testing.TB, c Config, usual int, packets ...[]byte) {
	t.Helper()
	to := c.to(usual)
	list, _, _, err := nics()
	require.NoError(t, err)
	at, err := choose(list, c.wantedIf(), to)
	require.NoError(t, err)
	m, err := speakToMany(t.Context(), to, at, 1)
	require.NoError(t, err)
	defer m.close()
	for _, p := range packets {
		require.NoError(t, m.say(p))
	}
}

func TestConfigProblems(t *testing.T) {
	for config, want := range map[string]string{
		`"port": 70000`:                         "port:",
		`"multicast_addr": "10.0.0.1"`:          "multicast_addr: 10.0.0.1 is not a multicast address",
		`"multicast_addr": "ff02::1"`:           "multicast_addr: \"ff02::1\" is not an IPv4 address",
		`"if_addr": "eth0"`:                     "if_addr: \"eth0\" is not an address",
		`"if_addr": "::1"`:                      "if_addr: \"::1\" is not an address",
		`"peers": ["a:0", "b c"]`:               "peers[0]: \"a:0\" has no valid port; peers[1]: \"b c:45893\" has no valid host",
		`"peers": ["a"], "broadcast_only":true`: "broadcast_only: has no effect with peers",
		`"peers": ["a"], "multicast_if":"lo"`:   "multicast_if: has no effect with peers",
		`"interval": "10s", "expiry": "19s"`:    "expiry: must be two intervals (20s) at least",
		`"include": ["["], "exclude": [""]`:     "exclude[0]: \"\" is not a pattern; include[0]: \"[\" is not a pattern",
		`"secret": "x"`:                         "secret: unknown key (do you mean secret_file?)",
	} {
		_, err := configured(t, config)
		require.ErrorContains(t, err, want, config)
	}
	for _, good := range []string{``, `"peers": ["a", "b:1", "::1", "[::1]:2", "10.0.0.1"], "if_addr": "::1"`,
		`"broadcast_only": true, "multicast_addr": "10.0.0.255"`, `"if_addr": "0.0.0.0"`} {
		_, err := configured(t, good)
		assert.NoError(t, err, good)
	}
}

func TestAddresses(t *testing.T) {
	for config, want := range map[string]string{
		``:                       "233.252.1.32:1",
		`"broadcast_only": true`: "255.255.255.255:1",
		`"broadcast_only": true, "multicast_addr": "10.0.0.255", "port": 7`: "10.0.0.255:7",
		`"multicast_addr": "239.1.2.3"`:                                     "239.1.2.3:1",
	} {
		s, err := configured(t, config)
		require.NoError(t, err)
		require.Equal(t, want, s.config.to(1).String())
	}
	for host, want := range map[string]string{"a": "a:5", "a:1": "a:1", "10.0.0.1": "10.0.0.1:5", "::1": "[::1]:5", "[::1]:6": "[::1]:6"} {
		require.Equal(t, want, withPort(host, 5))
	}
	require.Equal(t, "", Config{IfAddr: "0.0.0.0"}.wantedIf())
	require.Equal(t, "10.0.0.1", Config{IfAddr: "10.0.0.1"}.wantedIf())
	require.Equal(t, "lo", Config{IfAddr: "10.0.0.1", MulticastIf: "lo"}.wantedIf())
}

func TestInterfaces(t *testing.T) {
	list, addrs, text, err := nics()
	require.NoError(t, err)
	require.NotEmpty(t, addrs)
	require.Contains(t, text, "127.0.0.1/8")
	lo, err := pick(list, "127.0.0.1")
	require.NoError(t, err)
	require.True(t, lo[0].loopback())
	byName, err := choose(list, lo[0].Name, Config{}.to(1))
	require.NoError(t, err)
	require.Equal(t, lo[0].Index, byName[0].Index)
	_, err = choose(list, "nonesuch", Config{}.to(1))
	require.ErrorContains(t, err, "called nonesuch")
	only, err := choose(lo, "", Config{}.to(1)) // no other, and the system may know no way
	require.NoError(t, err)
	require.Equal(t, lo, only)
	_, err = choose(nil, "", Config{}.to(1))
	require.Error(t, err)
	any, err := choose(list, "", Config{}.to(1))
	require.NoError(t, err)
	require.NotEmpty(t, any)
}

func setMulticastInterface(c net.PacketConn, i *net.Interface) error {
	return ipv4.NewPacketConn(c).SetMulticastInterface(i)
}
