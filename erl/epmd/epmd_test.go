package epmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func client(port int) *epmd.Client { return &epmd.Client{Port: port} }

func TestLookup(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	c := client(s.Port)
	s.Set("shop", 4711)
	got, err := c.Lookup(t.Context(), "localhost", "shop")
	require.NoError(t, err)
	assert.Equal(t, epmd.Node{Name: "shop", Port: 4711, Type: epmd.NodeNormal, Highest: 6, Lowest: 5}, got)

	_, err = c.Lookup(t.Context(), "", "shopping")
	require.ErrorIs(t, err, epmd.ErrNotRegistered)
	assert.Contains(t, err.Error(), "look up node shopping in epmd of this machine")

	s.Answer(func([]byte) []byte {
		return []byte{'w', 0, 0x12, 0x67, 72, 1, 0, 7, 0, 6, 0, 4, 's', 'h', 'o', 'p', 0, 2, 'x', 'y'}
	})
	got, err = c.Lookup(t.Context(), "", "shop")
	require.NoError(t, err)
	want := epmd.Node{Name: "shop", Port: 4711, Type: epmd.NodeHidden, Protocol: 1, Highest: 7, Lowest: 6, Extra: []byte("xy")}
	assert.Equal(t, want, got)
}

func TestNames(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	c := client(s.Port)
	got, err := c.Names(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, got)

	s.Set("shop", 4711)
	s.Set("sköp at port 9", 4712) // cut at the last " at port "
	got, err = c.Names(t.Context(), "127.0.0.1")
	require.NoError(t, err)
	assert.ElementsMatch(t, []epmd.Name{{Name: "shop", Port: 4711}, {Name: "sköp at port 9", Port: 4712}}, got)
}

func TestRegister(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	c := client(s.Port)
	r, err := c.Register(t.Context(), epmd.Node{Name: "me", Port: 1234})
	require.NoError(t, err)
	assert.NotZero(t, r.Creation)
	assert.Equal(t, 1234, s.Lookup("me"))
	require.NoError(t, r.Err())
	require.NoError(t, r.Close())
	require.NoError(t, r.Close(), "a second time")
	require.ErrorIs(t, r.Err(), net.ErrClosed)
	require.Eventually(t, func() bool { return s.Lookup("me") == 0 }, 5*time.Second, time.Millisecond)
}

// TestRealDaemons does all of it with the daemon of each release and a node
// that is registered there.
func TestRealDaemons(t *testing.T) {
	for _, release := range []string{"25", "27", "29"} {
		t.Run(release, func(t *testing.T) {
			d, err := erltest.LaunchEPMD(release)
			require.NoError(t, err)
			t.Cleanup(d.Kill)
			beam := erltest.Start(t, erltest.Options{OTP: release, EPMD: d, Name: "shop"})
			c := client(d.Port)

			got, err := c.Lookup(t.Context(), "", "shop")
			require.NoError(t, err)
			assert.Equal(t, epmd.Node{Name: "shop", Port: got.Port, Type: epmd.NodeNormal, Highest: 6, Lowest: 5}, got)
			names, err := c.Names(t.Context(), "")
			require.NoError(t, err)
			assert.Equal(t, []epmd.Name{{Name: "shop", Port: got.Port}}, names)
			_, err = c.Lookup(t.Context(), "", "bank")
			require.ErrorIs(t, err, epmd.ErrNotRegistered)

			_, err = c.Register(t.Context(), epmd.Node{Name: "shop", Port: 1234})
			require.ErrorIs(t, err, epmd.ErrNameTaken)
			r, err := c.Register(t.Context(), epmd.Node{Name: "me", Port: 1234, Extra: []byte("x")})
			require.NoError(t, err)
			assert.Greater(t, r.Creation, uint32(3), "a creation of 32 bits")
			got, err = c.Lookup(t.Context(), "", "me")
			require.NoError(t, err)
			assert.Equal(t, epmd.Node{Name: "me", Port: 1234, Type: epmd.NodeHidden, Highest: 6, Lowest: 6, Extra: []byte("x")}, got)
			seen := beam.MustEval(t, `lists:keyfind("me", 1, element(2, erl_epmd:names("localhost")))`)
			assert.Equal(t, `{"me",1234}`, seen)

			d.Kill()
			select {
			case <-r.Lost():
			case <-time.After(10 * time.Second):
				t.Fatal("the loss went unnoticed")
			}
			require.Error(t, r.Err())
			require.NoError(t, r.Close())
			_, err = c.Names(t.Context(), "")
			require.ErrorContains(t, err, "is epmd running there?")

			require.NoError(t, d.Restart())
			r, err = c.Register(t.Context(), epmd.Node{Name: "me", Port: 1234})
			require.NoError(t, err)
			require.NoError(t, r.Close())
		})
	}
}

func TestWhatIsNotAName(t *testing.T) {
	c := &epmd.Client{Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("no")
	}}
	for _, name := range []string{"", "a@b", "a b", "a\nb", "a\x00", "\xff", strings.Repeat("x", 1021)} {
		_, err := c.Lookup(t.Context(), "h", name)
		assert.Error(t, err, "%q", name)
		_, err = c.Register(t.Context(), epmd.Node{Name: name, Port: 1})
		assert.Error(t, err, "%q", name)
	}
	for _, n := range []epmd.Node{{Name: "a"}, {Name: "a", Port: 65536}, {Name: "a", Port: 1, Extra: make([]byte, 1<<16)}} {
		_, err := c.Register(t.Context(), n)
		assert.Error(t, err)
	}
}

func TestBadAnswers(t *testing.T) {
	long := bytes.Repeat([]byte("name a at port 1\n"), 1<<16)
	tests := []struct {
		name   string
		answer []byte
		want   error
		what   string // of "lookup", "names", "register" it is an answer to
	}{
		{"nothing", nil, epmd.ErrProtocol, "lookup names register"},
		{"half", []byte{'w'}, epmd.ErrProtocol, "lookup names register"},
		{"another service", []byte("HTTP/1.1 400 Bad Request\r\n"), epmd.ErrProtocol, "lookup names register"},
		{"refused", []byte{'w', 1}, epmd.ErrNotRegistered, "lookup"},
		{"cut after the result", []byte{'w', 0}, epmd.ErrProtocol, "lookup"},
		{"cut in the name", []byte{'w', 0, 0, 1, 77, 0, 0, 6, 0, 5, 0, 9, 'a'}, epmd.ErrProtocol, "lookup"},
		{"cut before extra", []byte{'w', 0, 0, 1, 77, 0, 0, 6, 0, 5, 0, 1, 'a'}, epmd.ErrProtocol, "lookup"},
		{"cut in extra", []byte{'w', 0, 0, 1, 77, 0, 0, 6, 0, 5, 0, 1, 'a', 0, 3, 1}, epmd.ErrProtocol, "lookup"},
		{"huge name", []byte{'w', 0, 0, 1, 77, 0, 0, 6, 0, 5, 0xff, 0xff}, epmd.ErrProtocol, "lookup"},
		{"huge extra", []byte{'w', 0, 0, 1, 77, 0, 0, 6, 0, 5, 0, 1, 'a', 0xff, 0xff}, epmd.ErrProtocol, "lookup"},
		{"port 0", []byte{'w', 0, 0, 0, 77, 0, 0, 6, 0, 5, 0, 1, 'a', 0, 0}, epmd.ErrProtocol, "lookup"},
		{"half a line", []byte("\x00\x00\x11\x11name a at port 1"), epmd.ErrProtocol, "names"},
		{"no port", []byte("\x00\x00\x11\x11name a at port x\n"), epmd.ErrProtocol, "names"},
		{"large port", []byte("\x00\x00\x11\x11name a at port 65536\n"), epmd.ErrProtocol, "names"},
		{"no name", []byte("\x00\x00\x11\x11name  at port 1\n"), epmd.ErrProtocol, "names"},
		{"too many names", append([]byte{0, 0, 0, 0}, long...), epmd.ErrProtocol, "names"},
		{"taken", []byte{'v', 1, 0, 0, 0, 0}, epmd.ErrNameTaken, "register"},
		{"taken, old daemon", []byte{'y', 1, 0, 0}, epmd.ErrNameTaken, "register"},
		{"half a creation", []byte{'v', 0, 0}, epmd.ErrProtocol, "register"},
		{"creation 0", []byte{'v', 0, 0, 0, 0, 0}, epmd.ErrProtocol, "register"},
	}
	s := erltest.StartFakeEPMD(t)
	c := client(s.Port)
	calls := map[string]func() error{
		"lookup": func() error { _, err := c.Lookup(t.Context(), "", "a"); return err },
		"names":  func() error { _, err := c.Names(t.Context(), ""); return err },
		"register": func() error {
			_, err := c.Register(t.Context(), epmd.Node{Name: "a", Port: 1})
			return err
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Answer(func([]byte) []byte { return append([]byte{}, tt.answer...) })
			for what := range strings.FieldsSeq(tt.what) {
				assert.ErrorIs(t, calls[what](), tt.want, what)
			}
		})
	}
}

// TestNamesOfNonsense has somebody register what no node is called.
func TestNamesOfNonsense(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	s.Answer(func([]byte) []byte {
		return []byte("\x00\x00\x11\x11name shop at port 1\nname a\nb at port 2\nname \xff at port 3\nname zero at port 0\nname stock at port 4\n")
	})
	names, err := client(s.Port).Names(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []epmd.Name{{Name: "shop", Port: 1}, {Name: "stock", Port: 4}}, names)
}

func TestOldDaemonGivesShortCreation(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	s.Answer(func([]byte) []byte { return []byte{'y', 0, 0, 3} })
	r, err := client(s.Port).Register(t.Context(), epmd.Node{Name: "a", Port: 1})
	require.NoError(t, err)
	assert.EqualValues(t, 3, r.Creation)
	<-r.Lost() // the fake closes the connection
	require.ErrorIs(t, r.Err(), io.EOF)
	require.NoError(t, r.Close())
}

func TestSilentDaemon(t *testing.T) {
	s := erltest.StartFakeEPMD(t)
	s.Answer(func([]byte) []byte { return nil })
	cancelled := errors.New("the user went away")
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(cancelled) })
		_, err := client(s.Port).Lookup(ctx, "", "a")
		require.ErrorIs(t, err, cancelled)
	})
	t.Run("timeout", func(t *testing.T) {
		c := client(s.Port)
		c.Timeout = 10 * time.Millisecond
		_, err := c.Names(t.Context(), "")
		var ne net.Error
		require.ErrorAs(t, err, &ne)
		assert.True(t, ne.Timeout())
	})
	t.Run("done before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cancelled)
		_, err := client(s.Port).Register(ctx, epmd.Node{Name: "a", Port: 1})
		require.ErrorIs(t, err, cancelled)
	})
}

func TestFromEnv(t *testing.T) {
	tests := []struct {
		port, addr string
		want       *epmd.Client
		err        string
	}{
		{"", "", &epmd.Client{}, ""},
		{"4370", "", &epmd.Client{Port: 4370}, ""},
		{"", "10.0.0.5, fe80::1 ,", &epmd.Client{Local: []string{"10.0.0.5", "fe80::1"}}, ""},
		{"", "0.0.0.0,::", &epmd.Client{}, ""},
		{"x", "", nil, "ERL_EPMD_PORT"},
		{"0", "", nil, "ERL_EPMD_PORT"},
		{"65536", "", nil, "ERL_EPMD_PORT"},
		{"", "host.example", nil, "ERL_EPMD_ADDRESS"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q %q", tt.port, tt.addr), func(t *testing.T) {
			env := map[string]string{"ERL_EPMD_PORT": tt.port, "ERL_EPMD_ADDRESS": tt.addr}
			got, err := epmd.FromEnv(func(k string) string { return env[k] })
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestWhereEPMDIsTried(t *testing.T) {
	refused := errors.New("refused")
	tests := []struct {
		host string
		want string
	}{
		{"", "127.0.0.1 ::1 10.1.1.1"},
		{"LOCALHOST", "127.0.0.1 ::1 10.1.1.1"},
		{"here", "127.0.0.1 ::1 10.1.1.1 here"},
		{"here.example.org", "127.0.0.1 ::1 10.1.1.1 here.example.org"},
		{"there.example.org", "there.example.org"},
		{"10.0.0.5", "10.0.0.5"},
		{"127.0.0.1", "127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			var tried []string
			c := &epmd.Client{Local: []string{"10.1.1.1"}, Hostname: "here.example.org", Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
				host, port, _ := net.SplitHostPort(addr)
				assert.Equal(t, strconv.Itoa(epmd.DefaultPort), port)
				tried = append(tried, host)
				return nil, refused
			}}
			_, err := c.Names(t.Context(), tt.host)
			require.ErrorIs(t, err, refused)
			assert.Equal(t, tt.want, strings.Join(tried, " "))
		})
	}
}
