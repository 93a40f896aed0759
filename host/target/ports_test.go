package target_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) portsOf(t testing.TB, b *erltest.Beam, q target.PortsQuery) target.Ports {
	t.Helper()
	all, failed := answers(func(out target.Answers[target.Ports]) { r.Ports(t.Context(), q, out) })
	require.Empty(t, failed)
	return all[b.Name]
}

const somePorts = `
	{ok, L} = gen_tcp:listen(0, [{active, false}, {ip, {127,0,0,1}}]), {ok, P} = inet:port(L), persistent_term:put(listens, P),
	{ok, C} = gen_tcp:connect({127,0,0,1}, P, [{active, false}]), {ok, S} = gen_tcp:accept(L),
	ok = gen_tcp:send(C, binary:copy(<<0>>, 30000)), {ok, _} = gen_tcp:recv(S, 30000),
	{ok, _} = gen_udp:open(0, [inet6, {ip, {0,0,0,0,0,0,0,1}}]),
	{ok, _} = gen_udp:open(0, [{ifaddr, {local, "/tmp/" ++ os:getpid() ++ ".sock"}}]),
	open_port({spawn, "cat"}, []),
	{ok, K} = socket:open(inet, stream, tcp), ok = socket:connect(K, #{family => inet, addr => {127,0,0,1}, port => P}), ok = socket:send(K, binary:copy(<<0>>, 50000))`

func TestPorts(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, otp string, never bool) {
		b := erltest.Borrow(t, otp)
		b.MustEval(t, keep("talker", somePorts))
		t.Cleanup(func() { _, _ = b.Eval(`file:delete("/tmp/" ++ os:getpid() ++ ".sock")`) })
		r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
		all := r.portsOf(t, b, target.PortsQuery{})
		assert.Len(t, all.Ports, all.Total)
		kinds := map[string][]target.Port{}
		for i, p := range all.Ports {
			if p.OwnerName == "talker" {
				kinds[p.Kind] = append(kinds[p.Kind], p)
			}
			if i > 0 {
				assert.GreaterOrEqual(t, all.Ports[i-1].Input+all.Ports[i-1].Output, p.Input+p.Output)
			}
		}
		require.Len(t, kinds["tcp"], 3)
		require.Len(t, kinds["udp"], 2)
		require.Len(t, kinds["program"], 1)
		assert.Equal(t, "cat", kinds["program"][0].Name)
		assert.NotZero(t, kinds["program"][0].OSPid)
		assert.True(t, strings.HasPrefix(kinds["tcp"][0].Port, "#Port<0."))
		assert.Equal(t, b.MustEval(t, "whereis(talker)"), kinds["tcp"][0].Owner)
		assert.Len(t, r.portsOf(t, b, target.PortsQuery{Limit: 1, Sort: target.PortsByQueue}).Ports, 1)
		if !never {
			address := "127.0.0.1:" + b.MustEval(t, "persistent_term:get(listens)")
			var client, listener, passive target.Port
			for _, p := range kinds["tcp"] {
				switch {
				case p.Peer == address:
					client = p
				case p.Peer == "":
					listener = p
				default:
					passive = p
				}
			}
			assert.Equal(t, uint64(30000), passive.Input, "what the owner of a passive socket has read")
			assert.Equal(t, address, listener.Local)
			assert.Contains(t, listener.State, "listen")
			assert.Contains(t, client.State, "connected")
			assert.Contains(t, client.Statistics, target.Statistic{Name: "send_oct", Value: 30000})
			assert.GreaterOrEqual(t, client.Output, uint64(30000))
			assert.NotZero(t, client.Memory)
			local := kinds["udp"][0].Local + kinds["udp"][1].Local
			assert.Contains(t, local, "[::1]:")
			assert.Contains(t, local, ".sock")
			require.Len(t, kinds["socket"], 1)
			socket := kinds["socket"][0]
			assert.Equal(t, address, socket.Peer)
			assert.Equal(t, uint64(50000), socket.Output)
			assert.Equal(t, "tcp", socket.Protocol)
			assert.True(t, strings.HasPrefix(socket.Port, "#Socket<"), socket.Port)
			first := r.portsOf(t, b, target.PortsQuery{Sort: target.PortsByMemory, Limit: 2}).Ports
			assert.GreaterOrEqual(t, first[0].Memory, first[1].Memory)
		}
		// The owner dies, and its ports with it.
		b.MustEval(t, "talker ! stop")
		require.Eventually(t, func() bool {
			for _, p := range r.portsOf(t, b, target.PortsQuery{}).Ports {
				if p.OwnerName == "talker" || p.Name == "cat" {
					return false
				}
			}
			return true
		}, 30*time.Second, 10*time.Millisecond)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}
