package control

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// resourceQuestions answers for one node, and fails for another.
type resourceQuestions struct {
	Questions
	rows   target.TableRowsQuery
	failed error
}

func (f *resourceQuestions) Tables(_ context.Context, q target.TablesQuery, out target.Answers[target.Tables]) {
	out.Answer("n@h", target.Tables{Total: 7, Tables: []target.Table{{Name: q.Sort + q.Filter, ID: "#Ref<0.1>", Size: 3, KeyPos: 1, WriteConcurrency: "auto"}}})
	out.Failed(target.NodeError{Node: "bad@h", Err: target.ErrTimeout})
}

func (f *resourceQuestions) TableRows(_ context.Context, q target.TableRowsQuery) (target.TableRows, error) {
	f.rows = q
	return target.TableRows{Node: q.Node, Table: target.Table{Name: q.Table}, Rows: []target.KeyValue{{Key: "k", Value: "v\xff", Truncated: true}}, Scanned: 9, Next: []byte{1}}, f.failed
}

func (f *resourceQuestions) Mnesia(_ context.Context, q target.MnesiaQuery, out target.Answers[target.Mnesia]) {
	out.Answer("a@h", target.Mnesia{State: "absent"})
	out.Answer("n@h", target.Mnesia{State: "yes", DBNodes: []string{"n@h", "m@h"}, Running: []string{"n@h"}, Total: q.Limit,
		Tables: []target.MnesiaTable{{Name: "t", Copies: []target.MnesiaCopy{{Node: "n@h", Storage: "ram_copies"}}}}})
	out.Failed(target.NodeError{Node: "bad@h", Err: target.ErrTimeout})
}

func (f *resourceQuestions) Ports(_ context.Context, q target.PortsQuery, out target.Answers[target.Ports]) {
	out.Answer("n@h", target.Ports{Total: 2, Ports: []target.Port{{Port: "#Port<0.1>", Name: q.Sort, State: []string{"open"}, Statistics: []target.Statistic{{Name: "recv_oct", Value: 5}}}}})
	out.Failed(target.NodeError{Node: "bad@h", Err: target.ErrTimeout})
}

func (f *resourceQuestions) Timers(_ context.Context, q target.TimersQuery, out target.Answers[target.Timers]) {
	out.Answer("a@h", target.Timers{})
	out.Answer("n@h", target.Timers{Server: true, Total: 4, Owners: []target.TimerOwner{{Owner: "<0.1.0>", Count: 2}}})
	out.Failed(target.NodeError{Node: "bad@h", Err: target.ErrTimeout})
}

func (f *resourceQuestions) Groups(_ context.Context, q target.GroupsQuery, out target.Answers[target.Groups]) {
	out.Answer("n@h", target.Groups{
		Scopes: []target.Scope{{Kind: target.KindPG, Name: q.Scope, Partitions: []uint64{3}, Total: 3, Seen: 2}},
		Groups: []target.Group{{Kind: target.KindPG, Scope: q.Scope, Group: q.Filter, Count: 3, Members: []target.ProcessRef{{Kind: "process", Pid: "<0.1.0>"}}}},
	})
	out.Failed(target.NodeError{Node: "bad@h", Err: target.ErrTimeout})
}

func TestTables(t *testing.T) {
	f := &resourceQuestions{}
	s := &tablesService{ask: f}
	ctx := t.Context()
	res, err := s.ListTables(ctx, &controlpb.ListTablesRequest{Sort: "size", Filter: "x"})
	require.NoError(t, err)
	assert.Equal(t, "sizex", res.GetTables()[0].GetName())
	assert.Equal(t, uint64(7), res.GetTotals()[0].GetTotal())
	assert.Equal(t, string(Timeout), res.GetErrors()[0].GetCode())

	page, err := s.ReadTable(ctx, &controlpb.ReadTableRequest{Node: "n@h", Table: "t", Match: "{_}", Key: "k", After: []byte{2}, Limit: 1000, MaxBytes: 65536, Syntax: "elixir", Timeout: durationpb.New(time.Second)})
	require.NoError(t, err)
	assert.Equal(t, "k v\uFFFD", page.GetRows()[0].GetKey()+" "+page.GetRows()[0].GetValue())
	assert.True(t, page.GetRows()[0].GetTruncated())
	assert.Equal(t, []byte{1}, page.GetNext())
	assert.Less(t, f.rows.MaxBytes, 8192, "a thousand rows fit into an answer")
	assert.Equal(t, time.Second, f.rows.Timeout)
	for failed, code := range map[error]Code{target.ErrNoTable: NoTable, target.ErrPrivate: Private, target.ErrBadQuery: BadRequest} {
		f.failed = failed
		_, err = s.ReadTable(ctx, &controlpb.ReadTableRequest{Node: "n@h", Table: "t"})
		requireCode(t, err, code)
	}

	m, err := s.ListMnesia(ctx, &controlpb.ListMnesiaRequest{Limit: 5})
	require.NoError(t, err)
	require.Len(t, m.GetInstances(), 1, "a node without Mnesia is none")
	assert.False(t, m.GetInstances()[0].GetWhole())
	assert.Equal(t, []string{"m@h"}, m.GetInstances()[0].GetMissing())
	assert.Equal(t, "ram_copies", m.GetTables()[0].GetCopies()[0].GetStorage())
	assert.Len(t, m.GetErrors(), 1)
	assert.Equal(t, []string{"a@h", "n@h"}, m.GetAnswered())
}

func TestResources(t *testing.T) {
	s := &resourcesService{ask: &resourceQuestions{}}
	ports, err := s.ListPorts(t.Context(), &controlpb.ListPortsRequest{Sort: "queue"})
	require.NoError(t, err)
	assert.Equal(t, "queue", ports.GetPorts()[0].GetName())
	assert.Equal(t, map[string]uint64{"recv_oct": 5}, ports.GetPorts()[0].GetStatistics())
	assert.Len(t, ports.GetErrors(), 1)
	timers, err := s.ListTimers(t.Context(), &controlpb.ListTimersRequest{})
	require.NoError(t, err)
	assert.Len(t, timers.GetTimers(), 1)
	assert.Equal(t, uint64(4), timers.GetTotals()[0].GetTotal())
	assert.Equal(t, []string{"a@h", "n@h"}, timers.GetAnswered())
	groups, err := s.ListGroups(t.Context(), &controlpb.ListGroupsRequest{Scope: "s", Filter: "f"})
	require.NoError(t, err)
	assert.Equal(t, "s f <0.1.0>", groups.GetGroups()[0].GetScope()+" "+groups.GetGroups()[0].GetGroup()+" "+groups.GetGroups()[0].GetMembers()[0].GetPid())
	assert.Equal(t, uint64(2), groups.GetScopes()[0].GetSeen())
	assert.Equal(t, []string{"n@h"}, groups.GetAnswered())
}

// What makes no sense is refused before a target hears of it, and who gave up
// gets no answer.
func TestResourceBounds(t *testing.T) {
	f := &resourceQuestions{}
	tables, resources := &tablesService{ask: f}, &resourcesService{ask: f}
	long := strings.Repeat("x", 20<<10)
	read := func(r *controlpb.ReadTableRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := tables.ReadTable(ctx, r); return err }
	}
	list := func(r *controlpb.ListTablesRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := tables.ListTables(ctx, r); return err }
	}
	mnesia := func(r *controlpb.ListMnesiaRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := tables.ListMnesia(ctx, r); return err }
	}
	ports := func(r *controlpb.ListPortsRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := resources.ListPorts(ctx, r); return err }
	}
	timers := func(r *controlpb.ListTimersRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := resources.ListTimers(ctx, r); return err }
	}
	groups := func(r *controlpb.ListGroupsRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := resources.ListGroups(ctx, r); return err }
	}
	bad := []string{""}
	for i, call := range []func(context.Context) error{
		list(&controlpb.ListTablesRequest{Nodes: bad}), list(&controlpb.ListTablesRequest{Filter: long}),
		list(&controlpb.ListTablesRequest{Limit: 1 << 20}), list(&controlpb.ListTablesRequest{Sort: "heat"}),
		read(&controlpb.ReadTableRequest{Table: "t"}), read(&controlpb.ReadTableRequest{Node: "n"}),
		read(&controlpb.ReadTableRequest{Node: "n", Table: "t", Syntax: "lisp"}), read(&controlpb.ReadTableRequest{Node: "n", Table: "t", Match: long}),
		read(&controlpb.ReadTableRequest{Node: "n", Table: "t", After: []byte(long)}), read(&controlpb.ReadTableRequest{Node: "n", Table: "t", Limit: 1001}),
		read(&controlpb.ReadTableRequest{Node: "n", Table: "t", MaxBytes: 1 << 20}), read(&controlpb.ReadTableRequest{Node: "n", Table: "t", Timeout: durationpb.New(-1)}),
		mnesia(&controlpb.ListMnesiaRequest{Nodes: bad}), mnesia(&controlpb.ListMnesiaRequest{Limit: 1 << 20}),
		ports(&controlpb.ListPortsRequest{Nodes: bad}), ports(&controlpb.ListPortsRequest{Limit: 1 << 20}), ports(&controlpb.ListPortsRequest{Sort: "heat"}),
		timers(&controlpb.ListTimersRequest{Nodes: bad}), timers(&controlpb.ListTimersRequest{Limit: 1 << 20}),
		groups(&controlpb.ListGroupsRequest{Nodes: bad}), groups(&controlpb.ListGroupsRequest{Limit: 1 << 20}),
		groups(&controlpb.ListGroupsRequest{Scope: long}), groups(&controlpb.ListGroupsRequest{Members: 101}),
	} {
		err := call(t.Context())
		require.Error(t, err, "%d", i)
		requireCode(t, err, BadRequest)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, call := range []func(context.Context) error{
		list(&controlpb.ListTablesRequest{}), mnesia(&controlpb.ListMnesiaRequest{}), ports(&controlpb.ListPortsRequest{}),
		timers(&controlpb.ListTimersRequest{}), groups(&controlpb.ListGroupsRequest{}),
	} {
		requireCode(t, call(gone), Canceled)
	}
}
