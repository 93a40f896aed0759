package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

// stocked answers questions about what nodes hold, for shop@db1; mail@db2 fails.
type stocked struct {
	control.Questions
	rows  target.TableRowsQuery
	empty bool
	bare  bool // shop@db1 answers and has nothing
}

func (s *stocked) fail(failed func(target.NodeError)) {
	if !s.empty {
		failed(target.NodeError{Node: "mail@db2", Err: hinted("no answer in time", "--timeout waits longer")})
	}
}

var cache = target.Table{
	Name: "Elixir.Shop.Cache", ID: "#Ref<0.1.2.3>", Owner: "<0.123.0>", OwnerName: "Elixir.Shop.Orders", Type: "set", Protection: "public",
	Size: 250_000, Memory: 81_000_000, Heir: "<0.9.0>", Named: true, KeyPos: 1, ReadConcurrency: true, WriteConcurrency: "auto",
}

func (s *stocked) Tables(_ context.Context, _ target.TablesQuery, out target.Answers[target.Tables]) {
	if s.bare {
		out.Answer("shop@db1", target.Tables{})
		s.fail(out.Failed)
		return
	}
	if !s.empty {
		out.Answer("shop@db1", target.Tables{Total: 40, Tables: []target.Table{cache,
			{Name: "evil\x1b[2J", ID: "#Ref<0.1.2.4>", Owner: "<0.9.0>", OwnerName: "m:f/0", Type: "bag", Protection: "private", KeyPos: 2, WriteConcurrency: "false"}}})
	}
	s.fail(out.Failed)
}

func (s *stocked) TableRows(_ context.Context, q target.TableRowsQuery) (target.TableRows, error) {
	s.rows = q
	out := target.TableRows{Node: "shop@db1", Table: cache, Scanned: 2000, Next: []byte{0xfb, 1, 2}}
	if !s.empty {
		out.Rows = []target.KeyValue{{Key: "1", Value: "{1, %{state: :open}}"}, {Key: "2", Value: "{2, ...", Truncated: true}}
	}
	return out, nil
}

func (s *stocked) Mnesia(_ context.Context, _ target.MnesiaQuery, out target.Answers[target.Mnesia]) {
	if s.bare {
		out.Answer("shop@db1", target.Mnesia{State: "absent"})
		s.fail(out.Failed)
		return
	}
	if !s.empty {
		out.Answer("shop@db1", target.Mnesia{State: "yes", DBNodes: []string{"cart@db2", "shop@db1"}, Running: []string{"shop@db1"}, Directory: "/data", Total: 3,
			Tables: []target.MnesiaTable{{Name: "Elixir.Shop.Order", Type: "bag", Storage: "disc_copies", Size: 12, Memory: 3000, LoadState: "local", ReadFrom: "shop@db1",
				Copies: []target.MnesiaCopy{{Node: "shop@db1", Storage: "disc_copies"}, {Node: "cart@db2", Storage: "ram_copies"}}}}})
		out.Answer("cart@db2", target.Mnesia{State: "no"})
	}
	s.fail(out.Failed)
}

func (s *stocked) Ports(_ context.Context, _ target.PortsQuery, out target.Answers[target.Ports]) {
	if s.bare {
		out.Answer("shop@db1", target.Ports{})
		s.fail(out.Failed)
		return
	}
	if !s.empty {
		out.Answer("shop@db1", target.Ports{Total: 5, Ports: []target.Port{
			{Port: "#Port<0.6>", Name: "tcp_inet", Kind: "tcp", Owner: "<0.123.0>", OwnerName: "Elixir.Shop.Http", Input: 5_000_000, Output: 1200, QueueSize: 17,
				Memory: 40, Protocol: "tcp", Local: "10.0.0.1:80", Peer: "10.0.0.7:5123", State: []string{"connected", "open"}, Statistics: []target.Statistic{{Name: "recv_oct", Value: 5_000_000}}},
			{Port: "#Port<0.7>", Name: "tcp_inet", Kind: "tcp", Owner: "<0.124.0>", Protocol: "tcp", Local: "0.0.0.0:80", State: []string{"listen", "open"}},
			{Port: "#Port<0.8>", Name: "cat /tmp", Kind: "program", Owner: "<0.9.0>", OSPid: 4711},
			{Port: "#Port<0.0>", Name: "forker", Kind: "driver"},
		}})
	}
	s.fail(out.Failed)
}

func (s *stocked) Timers(_ context.Context, _ target.TimersQuery, out target.Answers[target.Timers]) {
	if s.bare {
		out.Answer("shop@db1", target.Timers{})
		s.fail(out.Failed)
		return
	}
	if !s.empty {
		out.Answer("shop@db1", target.Timers{Server: true, Total: 9, Owners: []target.TimerOwner{{Owner: "<0.123.0>", OwnerName: "Elixir.Shop.Clock", Count: 3}}})
	}
	s.fail(out.Failed)
}

func (s *stocked) Groups(_ context.Context, _ target.GroupsQuery, out target.Answers[target.Groups]) {
	if s.bare {
		out.Answer("shop@db1", target.Groups{})
		s.fail(out.Failed)
		return
	}
	if !s.empty {
		out.Answer("shop@db1", target.Groups{
			Scopes: []target.Scope{
				{Kind: "pg", Name: "pg", Owner: "<0.50.0>", Keys: "duplicate", Partitions: []uint64{1}, Total: 1, Seen: 1},
				{Kind: "registry", Name: "Elixir.Shop.Registry", Owner: "<0.51.0>", Keys: "unique", Partitions: []uint64{500_000, 700_000}, Total: 1_200_000, Seen: 500},
			},
			Groups: []target.Group{{Kind: "pg", Scope: "pg", Group: `{:room, 1}`, Count: 3, Local: 2, Members: []target.ProcessRef{
				{Kind: "process", Pid: "<0.123.0>", RegisteredName: "Elixir.Shop.Orders"}, {Kind: "process", Pid: "<0.9.0>", InitialCall: "m:f/0"},
				{Kind: "process", Pid: "<0.77.0>", Node: "cart@db2"}}}},
		})
	}
	s.fail(out.Failed)
}

func stock(t *testing.T, s *stocked) *member {
	return serve(t, &member{
		targets: []target.Info{{Node: "shop@db1", State: target.Attached}},
		options: func(o *control.Options) { o.Questions = s },
	})
}

func TestResourceCommands(t *testing.T) {
	m := stock(t, &stocked{})
	for _, cmd := range []string{"ets", "mnesia", "ports", "timers", "groups"} {
		for _, format := range []string{"table", "json", "csv"} {
			t.Run(cmd+"-"+format, func(t *testing.T) { golden(t, cmd+"-"+format, m.do(cmd, "-o", format)) })
		}
	}
	assert.Contains(t, m.do("groups", "--limit", "1").err, "500 were looked at")
	empty := stock(t, &stocked{empty: true})
	for _, cmd := range []string{"ets", "mnesia", "ports", "timers", "groups"} {
		r := empty.do(cmd)
		assert.Equal(t, 0, r.code)
		assert.Contains(t, r.err, "note: ")
		r = empty.do(cmd, "-o", "json")
		assert.Contains(t, r.out, `"`+cmd+`":[]`)
	}
}

// A node that has nothing to list has answered: with the failure of another that is
// an answer in part.
func TestNothingOfOneNode(t *testing.T) {
	m := stock(t, &stocked{bare: true})
	for _, cmd := range []string{"ets", "mnesia", "ports", "timers", "groups"} {
		for _, format := range []string{"table", "json", "csv"} {
			assert.Equal(t, exitPartial, m.do(cmd, "-o", format).code, "%s as %s", cmd, format)
		}
	}
}

func TestEtsRows(t *testing.T) {
	s := &stocked{}
	m := stock(t, s)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "ets-rows-"+format, m.do("ets", "shop@db1", "Shop.Cache", "-o", format))
	}
	r := m.do("ets", "shop@db1", "--table", "Shop.Cache", "--match", "{_, 1}", "--key", "1", "--limit", "7", "--after", "-wEC", "--syntax", "elixir", "--max-bytes", "99")
	require.Equal(t, 0, r.code, r.err)
	assert.Equal(t, target.TableRowsQuery{Node: "shop@db1", Table: "Shop.Cache", Match: "{_, 1}", Key: "1", Limit: 7, After: []byte{0xfb, 1, 2}, Syntax: "elixir", MaxBytes: 99}, s.rows)
	s.empty = true
	assert.Empty(t, m.do("ets", "shop@db1", "Shop.Cache").out)
	for _, args := range [][]string{
		{"ets", "--match", "{_}"}, {"ets", "a", "b@h", "--key", "1"}, {"ets", "a", "b", "--sort", "size"}, {"ets", "a", "b", "--limit", "1001"},
		{"ets", "a", "b", "--after", "?"}, {"ets", "a", "b", "--table", "t"}, {"ets", "--table", "t"},
	} {
		assert.Equal(t, 2, m.do(args...).code, "%v", args)
	}
	assert.Equal(t, 2, m.do("ets", "--sort", "heat").code)
	assert.Equal(t, 2, m.do("ports", "--sort", "heat").code)
	assert.Equal(t, 2, m.do("groups", "--members", "1000").code)
	assert.Equal(t, 2, m.do("timers", "--limit", "100000").code)
	assert.Equal(t, 2, m.do("mnesia", "--limit", "100000").code)
	assert.Equal(t, 2, m.do("ets", "a", "b", "--syntax", "lisp").code)
}

func TestCompleteTables(t *testing.T) {
	m := stock(t, &stocked{})
	r := m.do("__complete", "ets", "shop@db1", "Shop")
	assert.Contains(t, r.out, "Shop.Cache")
	assert.NotContains(t, r.out, "evil")
	assert.Contains(t, m.do("__complete", "ets", "").out, "shop@db1")
}
