package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/ownership"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

func TestListMembers(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "n1@h", "n2@h")
	c.kill("c")
	res, err := c.members["a"].dial(t).Cluster.ListMembers(testContext(t), &controlpb.ListMembersRequest{})
	require.NoError(t, err)
	var got []string
	for _, m := range res.GetMembers() {
		got = append(got, fmt.Sprint(m.GetName(), " ", m.GetState(), " ", m.GetAddress(), " ", m.GetVersion(), " ", m.GetTargets(), " ", m.GetQuorum(), " ", m.GetSelf()))
	}
	assert.Equal(t, []string{"a alive a:7946 v1 0 true true", "b alive b:7946 v1 2 true false", "c dead c:7946 v1 0 false false"}, got)
	assert.Equal(t, startOfTests, res.GetMembers()[0].GetSince().AsTime())
}

func TestLeaveAndForget(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	client := c.members["a"].dial(t)
	left, err := client.Cluster.Leave(testContext(t), &controlpb.LeaveRequest{})
	require.NoError(t, err)
	assert.Equal(t, "a", left.GetMember())
	_, err = client.Cluster.Leave(testContext(t), &controlpb.LeaveRequest{})
	assert.Equal(t, "leave the cluster: it has left already", requireCode(t, err, Failed).Cause)

	forget := func(member string) error {
		_, err := client.Cluster.ForgetMember(testContext(t), &controlpb.ForgetMemberRequest{Member: member})
		return err
	}
	assert.Equal(t, "forget b: it is running (alive)", requireCode(t, forget("b"), Conflict).Cause)
	requireCode(t, forget("a"), Conflict)
	requireCode(t, forget("x"), UnknownMember)
	c.kill("c")
	require.NoError(t, forget("c"))
	requireCode(t, forget("c"), UnknownMember)
	var methods []string
	for _, r := range c.members["a"].audit.all() {
		methods = append(methods, r.Method+" "+r.Outcome)
	}
	assert.Equal(t, "Leave done, Leave failed, ForgetMember conflict, ForgetMember conflict, ForgetMember unknown_member, ForgetMember done, ForgetMember unknown_member", strings.Join(methods, ", "))
}

// The status tells of every member what itself and others say; who does not
// answer costs his own words only.
func TestStatusOfAll(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c", "d")
	c.quorum = cluster.Quorum{Size: 4, Alive: 3, Need: 3, Has: true}
	c.own("b", "n1@h")
	c.registry.stats.Lag = map[string]uint64{"d": 7}
	c.members["b"].engine.plugins = []Plugin{{Name: "p", State: "running"}, {Name: "q", State: "failed"}}
	c.kill("d")
	c.members["c"].listen.cut()
	client := c.members["a"].dial(t)
	st, err := client.Member.GetStatus(testContext(t), &controlpb.GetStatusRequest{})
	require.NoError(t, err)
	assert.Equal(t, "a", st.GetMember())
	cl := st.GetCluster()
	assert.Equal(t, "4 3 true 3 true [d] []", fmt.Sprint(cl.GetSize(), cl.GetAlive(), cl.GetQuorum(), cl.GetNeed(), cl.GetPartitionSuspected(), cl.GetMissing(), cl.GetVersions()))
	require.Len(t, st.GetMembers(), 4)
	a, b, cc, d := st.GetMembers()[0], st.GetMembers()[1], st.GetMembers()[2], st.GetMembers()[3]
	assert.Equal(t, "a alive a:7946 v1", fmt.Sprint(a.GetName(), " ", a.GetState(), " ", a.GetAddress(), " ", a.GetVersion()))
	assert.Equal(t, "b alive b:7946 v1", fmt.Sprint(b.GetName(), " ", b.GetState(), " ", b.GetAddress(), " ", b.GetVersion()))
	assert.Equal(t, map[string]uint32{"attached": 1}, b.GetTargets())
	assert.Equal(t, map[string]uint32{"running": 1, "failed": 1}, b.GetPlugins())
	assert.Equal(t, map[string]uint64{"d": 7}, b.GetRegistryLag())
	assert.True(t, b.GetQuorum())
	assert.Greater(t, b.GetRss(), uint64(1<<20))
	assert.NotNil(t, b.GetEventLoopLag())
	assert.WithinDuration(t, time.Now(), b.GetClock().AsTime(), time.Minute)
	assert.Nil(t, b.GetError())

	assert.Equal(t, "unreachable_member", cc.GetError().GetCode())
	assert.Contains(t, cc.GetError().GetError(), "member c could not be reached: ")
	assert.Equal(t, "alive", cc.GetState())
	assert.Equal(t, "dead", d.GetState())
	assert.Contains(t, d.GetError().GetError(), "member d could not be reached: it is dead since 2026-01-02 03:04:05Z")
	var sights []string
	for _, s := range d.GetSeenBy() {
		sights = append(sights, s.GetMember()+" "+s.GetState())
	}
	assert.Equal(t, []string{"a dead", "b dead"}, sights, "c did not answer")
	assert.Equal(t, startOfTests.Add(time.Minute), a.GetSeenBy()[0].GetLastContact().AsTime())

	// For one alone nobody else is asked.
	st, err = client.Member.GetStatus(testContext(t), &controlpb.GetStatusRequest{Local: true})
	require.NoError(t, err)
	require.Len(t, st.GetMembers(), 1)
	assert.Len(t, st.GetMembers()[0].GetSeenBy(), 3)
}

// aKey is a cluster key that the fake ring knows by its last eight letters.
func aKey(t *testing.T) (text, id string) {
	t.Helper()
	text, realID := NewKey()
	assert.Len(t, realID, 8)
	return text, text[len(text)-8:]
}

func TestKeys(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	client := c.members["a"].dial(t)
	ctx := testContext(t)
	list := func() string {
		res, err := client.Cluster.ListKeys(ctx, &controlpb.ListKeysRequest{})
		require.NoError(t, err)
		var out []string
		for _, k := range res.GetKeys() {
			out = append(out, fmt.Sprint(strings.Join(k.GetMembers(), ""), "/", strings.Join(k.GetPrimary(), "")))
		}
		for _, e := range res.GetErrors() {
			out = append(out, e.GetMember()+": "+e.GetCode())
		}
		return strings.Join(out, " ")
	}
	assert.Equal(t, "abc/abc", list())
	text, id := aKey(t)
	res, err := client.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{Key: text + "\n"})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c"}, res.GetMembers())
	assert.Equal(t, id, res.GetKeyId())
	assert.Equal(t, "abc/abc abc/", list())
	res, err = client.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{KeyId: id})
	require.NoError(t, err)
	assert.Len(t, res.GetMembers(), 3)
	assert.Equal(t, "abc/ abc/abc", list())
	_, err = client.Cluster.RemoveKey(ctx, &controlpb.RemoveKeyRequest{KeyId: "!0000001"})
	require.NoError(t, err)
	assert.Equal(t, "abc/abc", list())
	_, err = client.Cluster.RemoveKey(ctx, &controlpb.RemoveKeyRequest{KeyId: id})
	requireCode(t, err, Conflict)

	for _, member := range []string{"a", "b"} { // no key goes into a log
		for _, r := range c.members[member].audit.all() {
			b, err := json.Marshal(r)
			require.NoError(t, err)
			assert.NotContains(t, string(b), text)
			assert.NotContains(t, string(b), `"key"`)
		}
		for _, e := range c.members[member].log.AllEntries() {
			line, err := e.String()
			require.NoError(t, err)
			assert.NotContains(t, line, text)
		}
	}
	assert.Len(t, c.members["b"].audit.all(), 3)
}

// A member that does not take a key is told, and the key is not used before all
// have it.
func TestKeysThatMembersLack(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	client := c.members["a"].dial(t)
	ctx := testContext(t)
	c.members["b"].keys.fail = errors.New("the disk is full")
	text, id := aKey(t)
	res, err := client.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{Key: text})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "c"}, res.GetMembers())
	require.Len(t, res.GetErrors(), 1)
	assert.Equal(t, "member b: add a key: the disk is full", res.GetErrors()[0].GetError())
	_, err = client.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{KeyId: id})
	assert.Equal(t, "use key "+id+": member b does not have it", requireCode(t, err, Conflict).Cause)
	c.kill("c")
	_, err = client.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{KeyId: id})
	assert.Contains(t, requireCode(t, err, Conflict).Cause, "use key "+id+": member b does not have it; member c could not be reached: it is dead")
	res, err = client.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{KeyId: id, Force: true})
	require.NoError(t, err)
	assert.Len(t, res.GetErrors(), 2)

	for _, text := range []string{"", "x", strings.Repeat("A", 2000)} {
		_, err = client.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{Key: text})
		requireCode(t, err, BadRequest)
	}
	_, err = client.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{})
	requireCode(t, err, BadRequest)
	c.members["a"].keys.fail = errors.New("no")
	_, err = client.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{Key: text})
	requireCode(t, err, Failed)

	// A file that can't be written is a warning: the change is in force.
	c.members["a"].keys.fail = &cluster.KeyFileError{Path: "/k", Cause: errors.New("read-only")}
	res, err = client.Cluster.RemoveKey(ctx, &controlpb.RemoveKeyRequest{KeyId: "!0000001"})
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, res.GetMembers())
	assert.Contains(t, res.GetErrors()[0].GetError(), "member a: ")
	assert.Contains(t, res.GetErrors()[0].GetError(), "read-only")
}

func TestCodesOfTheEngine(t *testing.T) {
	for err, code := range map[error]Code{
		&registry.TakenError{}:       Taken,
		&registry.NoQuorumError{}:    NoQuorum,
		registry.ErrNotFound:         UnknownKey,
		registry.ErrInvalid:          BadRequest,
		&registry.NotOriginError{}:   NotOwner,
		&ownership.NotOwnerError{}:   NotOwner,
		cluster.ErrUnknownMember:     UnknownMember,
		cluster.ErrMemberRuns:        Conflict,
		cluster.ErrMemberGone:        Unreachable,
		target.ErrNotAttached:        NotAttached,
		context.DeadlineExceeded:     Timeout,
		errors.New("something else"): Failed,
	} {
		assert.Equal(t, code, describe("", fmt.Errorf("x: %w", err)).Code, err)
	}
}

// scrape reads the metrics once they are there.
func scrape(t *testing.T, addr string) string {
	t.Helper()
	var body strings.Builder
	require.Eventually(t, func() bool {
		body.Reset()
		res, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var b [1 << 16]byte
		for {
			n, err := res.Body.Read(b[:])
			body.Write(b[:n])
			if err != nil {
				return res.StatusCode == http.StatusOK
			}
		}
	}, 30*time.Second, 10*time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
	return body.String()
}

// freeAddr is an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestMetrics(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("a", "n1@h")
	c.own("b", "n2@h")
	c.registry.stats = RegistryStats{Lag: map[string]uint64{"b": 3}, Sent: 6, Received: 7, Messages: 8, Repairs: 9, Snapshots: 10, Conflicts: 11}
	m := c.members["a"]
	m.engine.plugins = []Plugin{{Name: "p", State: "running", Restarts: 2}, {Name: "p", State: "failed", Restarts: 1}}
	c.change(func() {
		m.costs = map[string]target.Cost{"n1@h": {Since: startOfTests, Calls: 5, Failed: 1, TimedOut: 2, Received: 3, Sent: 4, Reductions: 9, Rows: 7, Slowed: 8, Cut: 6}}
	})
	addr := freeAddr(t)
	serve(t, clusterEngine{m.engine, m}, Options{Metrics: addr, Cluster: m, Registry: memberRegistry{c.registry, "a"}, Peers: m})
	text := scrape(t, addr)
	for _, want := range []string{
		`debughost_members{state="alive"} 2`, `debughost_members{state="dead"} 0`, `debughost_cluster_size 2`, `debughost_cluster_quorum 1`,
		`debughost_targets{state="attached"} 2`, `debughost_targets_owned{state="attached"} 1`, `debughost_plugins{state="failed"} 1`,
		`debughost_plugin_restarts_total{plugin="p"} 3`, `debughost_events_total 0`, `debughost_calls_forwarded_total 0`,
		`debughost_calls_lost_total 0`, `debughost_event_loop_lag_seconds `, `debughost_registry_entries 0`,
		`debughost_registry_lag{origin="b"} 3`, `debughost_registry_sent_bytes_total 6`, `debughost_registry_conflicts_total 11`,
		`debughost_target_calls_total{node="n1@h"} 5`, `debughost_target_calls_failed_total{node="n1@h"} 3`, `debughost_target_received_bytes_total{node="n1@h"} 3`,
		`debughost_target_sent_bytes_total{node="n1@h"} 4`, `debughost_target_reductions_total{node="n1@h"} 9`, `debughost_target_rows_total{node="n1@h"} 7`,
		`debughost_target_slowed_total{node="n1@h"} 8`, `debughost_target_cut_total{node="n1@h"} 6`,
		`go_goroutines `, `process_resident_memory_bytes `,
	} {
		assert.Contains(t, text, "\n"+want)
	}
	assert.NotContains(t, text, `node="n2@h"`, "another member has that one")
}

// An address in use costs the metrics until it is free, not the member.
func TestMetricsAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	defer func(was time.Duration) { retryMetrics = was }(retryMetrics)
	retryMetrics = 10 * time.Millisecond
	s := serve(t, &fakeEngine{}, Options{Metrics: addr})
	warned := func() (n int) {
		for _, e := range s.log.AllEntries() {
			if e.Message == "metrics are not served, trying again" {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return warned() > 0 }, 30*time.Second, time.Millisecond)
	_, err = s.dial(t).Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	assert.Contains(t, scrape(t, addr), "debughost_events_total")
	assert.Equal(t, 1, warned())
}

func TestMeter(t *testing.T) {
	m := &meter{}
	late, cpu := m.read()
	assert.Zero(t, late)
	assert.Zero(t, cpu)
	m.second(0)
	m.note(3 * time.Millisecond)
	m.note(time.Millisecond)
	m.second(time.Hour)
	late, cpu = m.read()
	assert.Equal(t, 3*time.Millisecond, late)
	assert.Greater(t, cpu, 0.0)
	for range meterSpan {
		m.second(time.Hour)
	}
	late, _ = m.read()
	assert.Zero(t, late, "it is long ago")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	real := &meter{}
	go func() { real.run(ctx); close(done) }()
	require.Eventually(t, func() bool { late, _ := real.read(); return late > 0 }, 30*time.Second, time.Millisecond)
	cancel()
	<-done
}

func TestProcField(t *testing.T) {
	assert.Empty(t, procField("/nowhere", 0))
	assert.Empty(t, procField("/proc/self/statm", 99))
}
