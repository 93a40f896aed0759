package target_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) groupsOf(t testing.TB, b *erltest.Beam, q target.GroupsQuery) target.Groups {
	t.Helper()
	all, failed := answers(func(out target.Answers[target.Groups]) { r.Groups(t.Context(), q, out) })
	require.Empty(t, failed)
	return all[b.Name]
}

const someGroups = `
	{ok, _} = pg:start(rooms), P = self(), ok = pg:join(rooms, {room, 1}, [P, P]), ok = pg:join(rooms, lobby, P), ok = pg:join(rooms, {room, 2}, whereis(init)),
	{ok, _} = 'Elixir.Registry':start_link([{keys, unique}, {name, 'Elixir.My.Names'}]),
	{ok, _} = 'Elixir.Registry':start_link([{keys, duplicate}, {name, 'Elixir.My.Topics'}, {partitions, 4}]),
	'Elixir.Registry':register('Elixir.My.Names', <<"orders">>, binary:copy(<<"v">>, 1000000)),
	'Elixir.Registry':register('Elixir.My.Names', {long, lists:seq(1, 5000)}, 1),
	'Elixir.Registry':register('Elixir.My.Names', binary:copy(<<"k">>, 5000), 1),
	['Elixir.Registry':register('Elixir.My.Topics', <<"topic">>, N) || N <- [1, 2, 3]]`

// byKey finds a group.
func byKey(g target.Groups, scope, key string) target.Group {
	for _, group := range g.Groups {
		if group.Scope == scope && group.Group == key {
			return group
		}
	}
	return target.Group{}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true, Eval: keep("joiner", someGroups)})
		// A table that looks a little like a registry.
		b.MustEval(t, keep("other", `ets:new('Elixir.Not.One', [named_table, public]), ets:insert('Elixir.Not.One', [{-1, x}, {-2, y}])`))
		r := attach(t, nil, b)
		g := r.groupsOf(t, b, target.GroupsQuery{Members: 10})
		me := target.ProcessRef{Kind: "process", Pid: b.MustEval(t, "whereis(joiner)"), RegisteredName: "joiner"}
		room := byKey(g, "rooms", "{:room, 1}")
		require.Len(t, room.Members, 2)
		assert.Equal(t, me.Pid, room.Members[0].Pid)
		assert.Equal(t, "joiner", room.Members[0].RegisteredName)
		assert.Equal(t, []uint64{2, 2}, []uint64{room.Count, room.Local})
		assert.Equal(t, target.KindPG, room.Kind)
		assert.Equal(t, uint64(3), g.Groups[0].Count, "the largest first")
		topic := byKey(g, "Elixir.My.Topics", `"topic"`)
		assert.Equal(t, uint64(3), topic.Count)
		require.Len(t, topic.Members, 3)
		assert.Equal(t, "joiner", topic.Members[2].RegisteredName)
		assert.Equal(t, uint64(1), byKey(g, "Elixir.My.Names", `"orders"`).Count)

		scopes := map[string]target.Scope{}
		for _, s := range g.Scopes {
			scopes[s.Name] = s
		}
		assert.Equal(t, "unique", scopes["Elixir.My.Names"].Keys)
		assert.Equal(t, []uint64{3}, scopes["Elixir.My.Names"].Partitions)
		assert.Len(t, scopes["Elixir.My.Topics"].Partitions, 4)
		assert.Equal(t, uint64(3), scopes["Elixir.My.Topics"].Total)
		assert.Equal(t, uint64(3), scopes["Elixir.My.Topics"].Seen)
		assert.Equal(t, b.MustEval(t, "whereis(rooms)"), scopes["rooms"].Owner)
		assert.Equal(t, uint64(3), scopes["rooms"].Total)
		assert.NotContains(t, scopes, "Elixir.Not.One")

		g = r.groupsOf(t, b, target.GroupsQuery{Scope: "My.Names"})
		require.Len(t, g.Groups, 3)
		assert.Len(t, g.Scopes, 1)
		assert.Empty(t, g.Groups[0].Members)
		for _, group := range g.Groups {
			assert.Less(t, len(group.Group), 1100, "a large key is cut")
		}
		g = r.groupsOf(t, b, target.GroupsQuery{Filter: "ROOM,", Limit: 1})
		require.Len(t, g.Groups, 1)
		assert.Equal(t, "{:room, 1}", g.Groups[0].Group)
		assert.Empty(t, r.groupsOf(t, b, target.GroupsQuery{Scope: "none_such"}).Scopes)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// Members on other nodes carry these.
func TestGroupsAcrossNodes(t *testing.T) {
	t.Parallel()
	one := erltest.Start(t, erltest.Options{Cookie: "same", Eval: `begin {ok, _} = pg:start(shared), ok end`})
	two := erltest.Start(t, erltest.Options{Cookie: "same", Eval: `begin {ok, _} = pg:start(shared), pg:join(shared, all, whereis(init)) end`})
	one.MustEval(t, "net_adm:ping('"+two.Name+"')")
	one.Await(t, "length(pg:get_members(shared, all))", "1")
	r := attach(t, nil, one)
	g := byKey(r.groupsOf(t, one, target.GroupsQuery{Members: 5}), "shared", "all")
	assert.Equal(t, []uint64{1, 0}, []uint64{g.Count, g.Local})
	require.Len(t, g.Members, 1)
	assert.Equal(t, two.Name, g.Members[0].Node)
	assert.Equal(t, two.MustEval(t, "whereis(init)"), g.Members[0].Pid)
}

func TestTimers(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		ask := func() target.Timers {
			all, failed := answers(func(out target.Answers[target.Timers]) { r.Timers(t.Context(), target.TimersQuery{}, out) })
			require.Empty(t, failed)
			return all[b.Name]
		}
		assert.Equal(t, target.Timers{}, ask(), "nobody has used them")
		b.MustEval(t, keep("ticker", `timer:send_interval(60000, tick), timer:send_interval(60000, tock), timer:apply_after(60000, erlang, now, [])`))
		b.MustEval(t, keep("other", `timer:apply_interval(60000, erlang, now, [])`))
		got := ask()
		assert.True(t, got.Server)
		assert.Equal(t, uint64(4), got.Total)
		assert.Equal(t, []target.TimerOwner{
			{Owner: b.MustEval(t, "whereis(ticker)"), OwnerName: "ticker", Count: 2},
			{Owner: b.MustEval(t, "whereis(other)"), OwnerName: "other", Count: 1},
		}, got.Owners)
		b.MustEval(t, "ticker ! stop")
		require.Eventually(t, func() bool { return len(ask().Owners) == 1 }, 30*time.Second, 10*time.Millisecond)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

func TestGroupsAndTimersNeedTheHelper(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	_, failed := answers(func(out target.Answers[target.Groups]) { r.Groups(t.Context(), target.GroupsQuery{}, out) })
	require.Len(t, failed, 1)
	assert.ErrorContains(t, failed[0].Err, "helper module is not used")
	_, failed = answers(func(out target.Answers[target.Timers]) { r.Timers(t.Context(), target.TimersQuery{}, out) })
	require.Len(t, failed, 1)
	assert.ErrorContains(t, failed[0].Err, "helper module is not used")
}
