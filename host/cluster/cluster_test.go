package cluster_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
)

func TestAloneMemberIsAClusterOfOne(t *testing.T) {
	m := start(t, cluster.Config{Name: "solo", Version: "v1"})
	assert.Equal(t, "solo alive", m.view())
	assert.Equal(t, cluster.Quorum{Size: 1, Alive: 1, Need: 1, Has: true}, m.Quorum())
	assert.Empty(t, m.Addr())
	assert.True(t, m.Self().Self)
	_, err := m.Conn("other")
	assert.ErrorIs(t, err, cluster.ErrUnknownMember)
	_, err = m.Conn("solo")
	assert.ErrorIs(t, err, cluster.ErrUnknownMember)
	m.SetFound("x", []string{"127.0.0.1:1"})
	m.Hint("other", errors.New("broken"))
	require.NoError(t, m.Leave(t.Context()))
	assert.Equal(t, cluster.Left, m.Self().State)
	m.stop()
	_, err = m.Listener().Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, m.Leave(t.Context()), cluster.ErrNotRunning)
}

func TestConfigIsChecked(t *testing.T) {
	key, err := cluster.NewRing(cluster.NewKey())
	require.NoError(t, err)
	for want, cfg := range map[string]cluster.Config{
		"member name":        {Name: "a b"},
		"want 1 to 128":      {Name: ""},
		"cluster label":      {Name: "a", Label: "-x"},
		"cluster profile":    {Name: "a", Profile: "moon"},
		"cluster key":        {Name: "a", Bind: "127.0.0.1:0"},
		"bind address":       {Name: "a", Bind: "127.0.0.1", Keys: key},
		"advertise address":  {Name: "a", Bind: ":0", Advertise: "x", Keys: key},
		"not printable":      {Name: "a", Bind: ":0", Version: "v\n", Keys: key},
		"too long to be tol": {Name: "a", Bind: ":0", Machine: string(make([]byte, 600)), Keys: key},
	} {
		_, err := cluster.New(cfg)
		assert.ErrorContains(t, err, want)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := cluster.New(cluster.Config{Name: "a", Bind: l.Addr().String(), Keys: ring(t, cluster.NewKey())})
	require.NoError(t, err)
	err = c.Run(t.Context())
	assert.ErrorContains(t, err, "address already in use")
	select {
	case <-c.Ready():
		t.Error("ready without a port")
	default:
	}
}

func TestFormation(t *testing.T) {
	all := lan(t, 3)
	awaitAll(t, all...)
	for _, m := range all {
		assert.Equal(t, cluster.Quorum{Size: 3, Alive: 3, Need: 2, Has: true}, m.Quorum())
		for _, other := range all {
			if other != m {
				m.awaitEvent(events.MemberJoined, other.cfg.Name)
			}
		}
		other, ok := m.Member("m1")
		require.True(t, ok)
		self := all[1].Self()
		assert.Equal(t, self.Addr, other.Addr)
		assert.Equal(t, self.Epoch, other.Epoch)
		assert.Equal(t, "v1.2.3", other.Version)
	}
}

func TestLeaveIsSeenAsLeft(t *testing.T) {
	all := lan(t, 3)
	awaitAll(t, all...)
	require.NoError(t, all[2].Leave(t.Context()))
	for _, m := range all[:2] {
		m.await("m2", cluster.Left)
		assert.Equal(t, cluster.Quorum{Size: 2, Alive: 2, Need: 2, Has: true}, m.Quorum())
		m.awaitEvent(events.MemberLeft, "m2")
		assert.Empty(t, m.events(events.MemberDead))
	}
	all[2].stop()
	cfg := all[2].cfg
	cfg.Epoch = 0
	all[2] = start(t, cfg)
	awaitAll(t, all...)
}

// A killed member's connections break, which is a hint; gossip's verdict comes
// later.
func TestKilledMemberIsUnreachableThenDead(t *testing.T) {
	all := lan(t, 3)
	awaitAll(t, all...)
	addr := all[2].Addr()
	all[2].stop() // without a goodbye
	for _, m := range all[:2] {
		m.Hint("m2", errors.New("stream broke"))
	}
	for _, m := range all[:2] {
		m.await("m2", cluster.Unreachable, cluster.Dead)
		e := m.awaitEvent(events.MemberUnreachable, "m2")
		assert.Contains(t, e.Reason, "connection refused")
		assert.Equal(t, 2, m.Quorum().Alive)
	}
	for _, m := range all[:2] {
		m.await("m2", cluster.Dead)
		assert.Contains(t, m.awaitEvent(events.MemberDead, "m2").Reason, "connection refused")
		_, err := m.Conn("m2")
		assert.ErrorIs(t, err, cluster.ErrMemberGone)
		assert.Equal(t, cluster.Quorum{Size: 3, Alive: 2, Need: 2, Has: true}, m.Quorum())
	}

	// It starts again where it was, without being told of anybody: they try it.
	cfg := all[2].cfg
	cfg.Bind, cfg.Join, cfg.Epoch = addr, nil, 0
	all[2] = start(t, cfg)
	awaitAll(t, all...)
	require.Eventually(t, func() bool {
		joined := all[0].events(events.MemberJoined)
		return len(joined) == 3 && strings.Contains(joined[2].Reason, "started again")
	}, longEnough, 5*time.Millisecond)
}

func TestHintOfALivingMemberChangesNothing(t *testing.T) {
	all := lan(t, 2)
	awaitAll(t, all...)
	for range 20 {
		all[0].Hint("m1", errors.New("stream broke"))
	}
	all[0].Hint("m1", nil)
	m, _ := all[0].Member("m1")
	assert.WithinDuration(t, time.Now(), m.LastContact, longEnough)
	assert.Equal(t, cluster.Alive, m.State)
	assert.Empty(t, all[0].events(events.MemberUnreachable))
}

// The others do not know yet that the earlier life is over.
func TestRestartUnderTheSameName(t *testing.T) {
	for name, bind := range map[string]func(string) string{
		"same address":    func(addr string) string { return addr },
		"another address": func(string) string { return "127.0.0.1:0" },
	} {
		t.Run(name, func(t *testing.T) {
			all := lan(t, 3)
			awaitAll(t, all...)
			all[2].stop()
			cfg := all[2].cfg
			cfg.Bind, cfg.Epoch = bind(all[2].Addr()), 0
			all[2] = start(t, cfg)
			for _, m := range all[:2] {
				require.Eventually(t, func() bool {
					x, _ := m.Member("m2")
					return x.Epoch == all[2].Self().Epoch && x.State == cluster.Alive
				}, longEnough, 5*time.Millisecond)
			}
			awaitAll(t, all...)
			assert.Empty(t, all[2].Clash())
		})
	}
}

// Whatever listens at the address of a member that is gone is not that member.
func TestAnotherProcessAtAMembersAddress(t *testing.T) {
	all := lan(t, 2)
	awaitAll(t, all...)
	all[1].stop()
	other := all[1].cfg
	other.Bind, other.Label, other.Epoch, other.Join = all[1].Addr(), "other", 0, nil
	start(t, other)
	all[0].Hint("m1", errors.New("broken"))
	all[0].await("m1", cluster.Unreachable, cluster.Dead)
	all[0].await("m1", cluster.Dead)
	assert.Empty(t, all[0].events(events.MemberRecovered))
}

func TestNameClash(t *testing.T) {
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	old := start(t, cluster.Config{Name: "same", ID: "11111111", Bind: "127.0.0.1:0", Keys: ring(t, key), Join: []string{a.Addr()}})
	awaitAll(t, a, old)
	late := start(t, cluster.Config{Name: "same", ID: "22222222", Bind: "127.0.0.1:0", Keys: ring(t, key), Join: []string{a.Addr()}})
	e := late.awaitEvent(events.NameConflict, "same")
	assert.Contains(t, e.Reason, old.Addr())
	assert.NotEmpty(t, late.Clash())
	assert.False(t, late.Quorum().Has)
	x, _ := a.Member("same")
	assert.Equal(t, old.Addr(), x.Addr, "the older one stays")
	assert.Empty(t, old.events(events.NameConflict))

	old.stop() // then the newcomer is let in
	require.Eventually(t, func() bool {
		x, _ := a.Member("same")
		return x.Addr == late.Addr() && x.State == cluster.Alive
	}, longEnough, 5*time.Millisecond)
	require.Eventually(t, func() bool { return late.Clash() == "" && late.Quorum().Has }, longEnough, 5*time.Millisecond)
}

func TestForget(t *testing.T) {
	all := lan(t, 3)
	awaitAll(t, all...)
	assert.ErrorIs(t, all[0].Forget("m2"), cluster.ErrMemberRuns)
	assert.ErrorIs(t, all[0].Forget("m0"), cluster.ErrMemberRuns)
	assert.ErrorIs(t, all[0].Forget("nobody"), cluster.ErrUnknownMember)
	all[2].stop()
	all[0].await("m2", cluster.Dead)
	require.NoError(t, all[0].Forget("m2"))
	awaitAll(t, all[:2]...)
	for _, m := range all[:2] {
		assert.Equal(t, 2, m.Quorum().Size)
		m.awaitEvent(events.MemberForgotten, "m2")
	}

	// A new member hears nothing of it, and it may come back itself.
	cfg := all[1].cfg
	cfg.Name, cfg.Epoch = "m3", 0
	m3 := start(t, cfg)
	awaitAll(t, all[0], all[1], m3)
	cfg = all[2].cfg
	cfg.Epoch = 0
	awaitAll(t, all[0], all[1], m3, start(t, cfg))
}

func TestWrongKeyAndLabelAreTold(t *testing.T) {
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	for name, tc := range map[string]struct {
		cfg  cluster.Config
		want string
	}{
		"key":   {cluster.Config{Keys: ring(t, cluster.NewKey())}, "another cluster key (it has " + key.ID()},
		"label": {cluster.Config{Keys: ring(t, key), Label: "other"}, "another cluster label"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Name, tc.cfg.Bind, tc.cfg.Join = "b", "127.0.0.1:0", []string{a.Addr()}
			b := start(t, tc.cfg)
			require.Eventually(t, func() bool { return len(b.events(events.DiscoveryFailed)) == 1 }, longEnough, 5*time.Millisecond)
			e := b.events(events.DiscoveryFailed)[0]
			assert.Contains(t, e.Reason, tc.want)
			assert.Contains(t, e.Reason, a.Addr())
			assert.Equal(t, "b alive", b.view())
			assert.Equal(t, "a alive", a.view())
		})
	}
}

func TestSeedsThatAreNoMembers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // something else listens there
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("SSH-2.0-x\r\n"))
			c.Close()
		}
	}()
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	b := start(t, cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	b.SetFound("gossip", []string{l.Addr().String(), b.Addr(), "no.such.host.invalid:1", "127.0.0.1:x"})
	require.Eventually(t, func() bool { return len(b.events(events.DiscoveryFailed)) == 3 }, longEnough, 5*time.Millisecond)
	for _, e := range b.events(events.DiscoveryFailed) {
		assert.Equal(t, "gossip", e.Topology)
	}
	b.SetFound("epmd", []string{a.Addr()})
	awaitAll(t, a, b)
	b.ForgetTopology("gossip")
	b.ForgetTopology("epmd")
	awaitAll(t, a, b)
}

func TestSeedThatComesLater(t *testing.T) {
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	addr := a.Addr()
	a.stop()
	b := start(t, cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key), Join: []string{addr}})
	require.Eventually(t, func() bool { return len(b.events(events.DiscoveryFailed)) == 1 }, longEnough, 5*time.Millisecond)
	a = start(t, cluster.Config{Name: "a", Bind: addr, Keys: ring(t, key)})
	awaitAll(t, a, b)
	require.Eventually(t, func() bool { return len(b.events(events.DiscoveryRecovered)) == 1 }, longEnough, 5*time.Millisecond)
}

func TestKnownMembersAfterARestart(t *testing.T) {
	disk := &files{}
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	cfg := cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key), Join: []string{a.Addr()}, Store: disk}
	b := start(t, cfg)
	awaitAll(t, a, b)
	b.stop()
	assert.Contains(t, disk.text("members.json"), a.Addr())

	cfg.Join, cfg.Epoch = nil, 0
	b = start(t, cfg)
	awaitAll(t, a, b)

	// Alone after a restart it still counts the other one.
	b.stop()
	a.stop()
	cfg.Epoch = 0
	b = start(t, cfg)
	assert.Equal(t, "a dead, b alive", b.view())
	assert.Equal(t, cluster.Quorum{Size: 2, Alive: 1, Need: 2}, b.Quorum())
	assert.Empty(t, b.events(), "nothing happened")
	require.NoError(t, b.Forget("a"))
	require.Eventually(t, func() bool { return b.Quorum().Has && len(b.events(events.QuorumRegained)) == 1 }, longEnough, 5*time.Millisecond)
}

func TestBrokenDiskIsAWarning(t *testing.T) {
	key := cluster.NewKey()
	disk := &files{broken: true, m: map[string][]byte{"members.json": []byte("{")}}
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key), Store: disk})
	b := start(t, cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key), Join: []string{a.Addr()}})
	awaitAll(t, a, b)
}

func TestAdvertise(t *testing.T) {
	a := start(t, cluster.Config{Name: "a", Bind: "0.0.0.0:0", Advertise: "127.0.0.1:0", Keys: ring(t, cluster.NewKey())})
	host, _, err := net.SplitHostPort(a.Addr())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host)
	b := start(t, cluster.Config{Name: "b", Bind: "0.0.0.0:0", Keys: ring(t, cluster.NewKey())})
	host, _, err = net.SplitHostPort(b.Addr())
	require.NoError(t, err)
	assert.False(t, net.ParseIP(host).IsUnspecified())
}

func TestRotationWhileMembersRun(t *testing.T) {
	all := lan(t, 3)
	awaitAll(t, all...)
	old, fresh := all[0].cfg.Keys.Primary(), cluster.NewKey()
	for _, m := range all {
		require.NoError(t, m.cfg.Keys.Add(fresh))
	}
	for _, m := range all {
		require.NoError(t, m.cfg.Keys.Use(fresh.ID()))
	}
	// Members with the new key only join, and the others stay together.
	cfg := cluster.Config{Name: "m3", Bind: "127.0.0.1:0", Keys: ring(t, fresh), Join: []string{all[0].Addr()}}
	all = append(all, start(t, cfg))
	awaitAll(t, all...)
	for _, m := range all[:3] {
		require.NoError(t, m.cfg.Keys.Remove(old.ID()))
		require.Eventually(t, func() bool { return len(m.events(events.KeyRotated)) == 3 }, longEnough, 5*time.Millisecond)
	}
	cfg.Name, cfg.Epoch = "m4", 0
	all = append(all, start(t, cfg))
	awaitAll(t, all...)
	for _, m := range all {
		assert.Empty(t, m.events(events.MemberDead, events.MemberUnreachable, events.QuorumLost))
	}
}

func TestRunEndsWhileJoining(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and is silent
	require.NoError(t, err)
	defer l.Close()
	m := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, cluster.NewKey()), Join: []string{l.Addr().String()}})
	conn, err := l.Accept() // the attempt has begun
	require.NoError(t, err)
	defer conn.Close()
	m.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, m.Leave(ctx))
}

func TestProfilesForm(t *testing.T) {
	for _, p := range cluster.Profiles() {
		t.Run(string(p), func(t *testing.T) {
			key := cluster.NewKey()
			a := start(t, cluster.Config{Name: "a", Bind: "localhost:0", Keys: ring(t, key), Profile: p})
			b := start(t, cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key), Profile: p, Join: []string{a.Addr()}})
			awaitAll(t, a, b)
		})
	}
}
