package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// answer is a whole answer of ListProcesses.
type answer struct {
	rows   []*controlpb.Process
	chunks []int
	errors []*controlpb.NodeError
	end    *controlpb.ProcessesEnd
}

func list(t *testing.T, c *Client, req *controlpb.ListProcessesRequest) (answer, error) {
	t.Helper()
	var a answer
	stream, err := c.Processes.ListProcesses(testContext(t), req)
	require.NoError(t, err)
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			require.NotNil(t, a.end, "no end")
			return a, nil
		}
		if err != nil {
			return a, err
		}
		require.Nil(t, a.end, "something came after the end")
		switch p := res.GetPart().(type) {
		case *controlpb.ListProcessesResponse_Rows:
			a.chunks = append(a.chunks, len(p.Rows.GetProcesses()))
			a.rows = append(a.rows, p.Rows.GetProcesses()...)
		case *controlpb.ListProcessesResponse_Error:
			a.errors = append(a.errors, p.Error)
		case *controlpb.ListProcessesResponse_End:
			a.end = p.End
		}
	}
}

func TestListProcessesTranslates(t *testing.T) {
	var got target.ProcessQuery
	row := target.Process{
		Node: "a@b", Pid: "<0.1.0>", RegisteredName: "Elixir.X", Memory: 1 << 60, Reductions: 2, MessageQueueLen: 3,
		CurrentFunction: "m:f/1", InitialCall: "m:g/2", Status: "waiting", Rate: 1.5,
	}
	e := &fakeEngine{
		targets: []target.Info{{Node: "a@b", State: target.Attached}, {Node: "c@d", State: target.Attached}, {Node: "e@f", State: target.Gone}},
		processes: func(_ context.Context, q target.ProcessQuery, s target.Sink) error {
			got = q
			if err := s.Failed(target.NodeError{Node: "c@d", Err: &target.HintError{Err: fmt.Errorf("c@d: %w", target.ErrTimeout), Hint: "wait"}}); err != nil {
				return err
			}
			return s.Rows([]target.Process{row})
		},
	}
	c := serve(t, e, Options{}).dial(t)
	a, err := list(t, c, &controlpb.ListProcessesRequest{
		Sort: "reductions", Window: durationpb.New(time.Second), Filter: "f", Function: "g", Application: "h",
		Limit: 7, Offset: 8, Timeout: durationpb.New(9 * time.Second),
	})
	require.NoError(t, err)
	assert.Equal(t, target.ProcessQuery{
		Sort: target.ByReductions, Window: time.Second, Filter: "f", Function: "g", Application: "h",
		Limit: 7, Offset: 8, Timeout: 9 * time.Second,
	}, got)
	require.Len(t, a.rows, 1)
	r := a.rows[0]
	assert.Equal(t, row, target.Process{
		Node: r.GetNode(), Pid: r.GetPid(), RegisteredName: r.GetRegisteredName(), Memory: r.GetMemory(),
		Reductions: r.GetReductions(), MessageQueueLen: r.GetMessageQueueLen(), CurrentFunction: r.GetCurrentFunction(),
		InitialCall: r.GetInitialCall(), Status: r.GetStatus(), Rate: r.GetRate(),
	})
	require.Len(t, a.errors, 1)
	assert.Equal(t, "c@d", a.errors[0].GetNode())
	assert.Equal(t, "c@d: no answer in time", a.errors[0].GetError())
	assert.Equal(t, "wait", a.errors[0].GetHint())
	assert.Equal(t, "timeout", a.errors[0].GetCode())
	assert.Equal(t, uint32(1), a.end.GetAnswered())
	assert.Equal(t, uint32(1), a.end.GetFailed())
	assert.Equal(t, uint64(1), a.end.GetRows())

	_, err = list(t, c, &controlpb.ListProcessesRequest{})
	require.NoError(t, err)
	assert.Equal(t, target.ProcessQuery{Sort: target.ByMemory}, got)
}

// Rows are cut into chunks, whatever the engine hands over, and none of the
// reused parts of one shows in another.
func TestListProcessesChunks(t *testing.T) {
	sizes := []int{1, 499, 500, 501, 1203, 2}
	total := 0
	e := &fakeEngine{processes: func(_ context.Context, _ target.ProcessQuery, s target.Sink) error {
		for _, n := range sizes {
			rows := make([]target.Process, n)
			for i := range rows {
				rows[i] = target.Process{Pid: fmt.Sprint(total), Memory: uint64(total)}
				if total%3 == 0 {
					rows[i].RegisteredName = fmt.Sprint("name", total)
				}
				total++
			}
			if err := s.Rows(rows); err != nil {
				return err
			}
		}
		return nil
	}}
	a, err := list(t, serve(t, e, Options{}).dial(t), &controlpb.ListProcessesRequest{Nodes: []string{"n@h"}})
	require.NoError(t, err)
	assert.Equal(t, []int{1, 499, 500, 500, 1, 500, 500, 203, 2}, a.chunks)
	require.Len(t, a.rows, total)
	for i, r := range a.rows {
		name := ""
		if i%3 == 0 {
			name = fmt.Sprint("name", i)
		}
		if r.GetPid() != fmt.Sprint(i) || r.GetMemory() != uint64(i) || r.GetRegisteredName() != name {
			t.Fatalf("row %d is %v", i, r)
		}
	}
	assert.Equal(t, uint32(1), a.end.GetAnswered())
}

// Text of a target that is no UTF-8 must not break the answer.
func TestHostileText(t *testing.T) {
	bad := "a\xff\xfeb"
	e := &fakeEngine{
		targets: []target.Info{{Node: bad, Reason: bad, Topologies: []string{bad}}},
		processes: func(_ context.Context, _ target.ProcessQuery, s target.Sink) error {
			return errors.Join(
				s.Rows([]target.Process{{Node: bad, Pid: bad, RegisteredName: bad, CurrentFunction: bad, InitialCall: bad, Status: bad}}),
				s.Failed(target.NodeError{Node: bad, Err: errors.New(bad)}))
		},
		inspect: func(context.Context, target.InspectQuery) (target.ProcessDetail, error) {
			return target.ProcessDetail{
				Label: bad, Dictionary: []target.KeyValue{{Key: bad, Value: bad}}, Links: []target.ProcessRef{{RegisteredName: bad}},
				CurrentStacktrace: []target.Frame{{Function: bad, File: bad}}, Missing: []string{bad},
			}, nil
		},
		kill: func(context.Context, target.KillQuery) (target.KillResult, error) {
			return target.KillResult{}, errors.New(bad)
		},
	}
	c := serve(t, e, Options{}).dial(t)
	a, err := list(t, c, &controlpb.ListProcessesRequest{})
	require.NoError(t, err)
	assert.Equal(t, "a\uFFFDb", a.rows[0].GetRegisteredName())
	_, err = c.Targets.ListTargets(testContext(t), &controlpb.ListTargetsRequest{})
	require.NoError(t, err)
	_, err = c.Processes.InspectProcess(testContext(t), &controlpb.InspectProcessRequest{Node: "n", Process: "p"})
	require.NoError(t, err)
	_, err = c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "n", Process: "p"})
	assert.Equal(t, "kill p on n: a\uFFFDb", err.Error())
}

// A caller that reads slowly slows the engine down; what is in between is
// bounded.
func TestListProcessesBackpressure(t *testing.T) {
	const chunks = 5000
	const calm = 200 * time.Millisecond // without progress counts as stuck
	var sent atomic.Int64
	stuck := make(chan struct{})
	e := &fakeEngine{processes: func(ctx context.Context, _ target.ProcessQuery, s target.Sink) error {
		rows := make([]target.Process, chunkRows)
		for i := range rows {
			rows[i] = target.Process{Node: "n@h", CurrentFunction: strings.Repeat("f", 100), Memory: uint64(i)}
		}
		watch := time.AfterFunc(calm, func() { close(stuck) })
		for range chunks {
			if err := s.Rows(rows); err != nil {
				return err
			}
			sent.Add(1)
			watch.Reset(calm)
		}
		return nil
	}}
	c := serve(t, e, Options{}).dial(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	stream, err := c.Processes.ListProcesses(ctx, &controlpb.ListProcessesRequest{})
	require.NoError(t, err)
	<-stuck
	assert.Less(t, sent.Load(), int64(chunks/10))
	// A small call on the same connection does not wait behind it.
	_, err = c.Member.GetVersion(testContext(t), &controlpb.GetVersionRequest{})
	require.NoError(t, err)
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	requireCode(t, err, Canceled)
}

func TestListProcessesRefuses(t *testing.T) {
	c := serve(t, &fakeEngine{}, Options{}).dial(t) // the engine must not be asked
	long := strings.Repeat("x", 2000)
	for name, req := range map[string]*controlpb.ListProcessesRequest{
		"sort":            {Sort: "size"},
		"offset":          {Offset: 1},
		"limit":           {Limit: 1 << 31},
		"window":          {Window: durationpb.New(-1)},
		"window too long": {Window: durationpb.New(2 * MaxWindow)},
		"window garbage":  {Window: &durationpb.Duration{Seconds: 1, Nanos: -1}},
		"timeout":         {Timeout: durationpb.New(2 * MaxTimeout)},
		"filter":          {Filter: long},
		"node":            {Nodes: []string{""}},
		"long node":       {Nodes: []string{long}},
		"many nodes":      {Nodes: make([]string, 1001)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := list(t, c, req)
			e := requireCode(t, err, BadRequest)
			assert.True(t, strings.HasPrefix(e.Cause, "list processes: "), e.Cause)
		})
	}
}

func TestListProcessesFails(t *testing.T) {
	e := &fakeEngine{processes: func(context.Context, target.ProcessQuery, target.Sink) error {
		return context.DeadlineExceeded
	}}
	_, err := list(t, serve(t, e, Options{}).dial(t), &controlpb.ListProcessesRequest{})
	assert.Equal(t, "list processes: no answer in time", requireCode(t, err, Timeout).Cause)
}

func TestAnswered(t *testing.T) {
	set := func(names ...string) map[string]bool {
		m := map[string]bool{}
		for _, n := range names {
			m[n] = true
		}
		return m
	}
	assert.Equal(t, 2, answered(set("a@x", "b@x"), set()))
	assert.Equal(t, 1, answered(set("a@x", "b@x"), set("b@x")))
	assert.Equal(t, 1, answered(set("a", "b"), set("b@x")))
	assert.Equal(t, 0, answered(set("b"), set("b")))
	assert.Equal(t, 1, answered(set("b"), set("bb@x")))
}

func TestInspectTranslates(t *testing.T) {
	var got target.InspectQuery
	full := target.ProcessDetail{
		Process:           target.Process{Node: "a@b", Pid: "<0.1.0>", RegisteredName: "r", Memory: 1, Reductions: 2, MessageQueueLen: 3, CurrentFunction: "c", InitialCall: "i", Status: "s"},
		Label:             "l",
		GroupLeader:       target.ProcessRef{Kind: "process", Pid: "<0.2.0>", RegisteredName: "user", InitialCall: "g:l/0", Node: "x@y"},
		Links:             []target.ProcessRef{{Kind: "port", Pid: "#Port<0.3>"}},
		MonitoredBy:       []target.ProcessRef{{Pid: "<0.4.0>"}},
		Monitors:          []target.ProcessRef{{Pid: "<0.5.0>"}},
		Ancestors:         []target.ProcessRef{{Pid: "<0.6.0>"}},
		TrapExit:          true,
		ErrorHandler:      "error_handler",
		Priority:          "high",
		HeapSize:          4,
		TotalHeapSize:     5,
		StackSize:         6,
		MinHeapSize:       7,
		FullsweepAfter:    8,
		MinorGCs:          9,
		MaxHeapSize:       10,
		SuspendingCount:   11,
		Binaries:          12,
		BinaryBytes:       13,
		CurrentStacktrace: []target.Frame{{Function: "m:f/1", File: "m.erl", Line: 14}},
		Dictionary:        []target.KeyValue{{Key: "k", Value: "v", Truncated: true}},
		Messages:          []target.KeyValue{{Value: "hello"}},
		MessagesTotal:     15,
		Missing:           []string{"binary: too many"},
	}
	e := &fakeEngine{inspect: func(_ context.Context, q target.InspectQuery) (target.ProcessDetail, error) {
		got = q
		return full, nil
	}}
	c := serve(t, e, Options{}).dial(t)
	ask := func(req *controlpb.InspectProcessRequest) *controlpb.ProcessDetail {
		res, err := c.Processes.InspectProcess(testContext(t), req)
		require.NoError(t, err)
		return res.GetProcess()
	}
	p := ask(&controlpb.InspectProcessRequest{Node: "a", Process: "p", Messages: 2, MaxBytes: 100, Syntax: "elixir", Timeout: durationpb.New(time.Second)})
	assert.Equal(t, target.InspectQuery{Node: "a", Process: "p", Messages: 2, MaxBytes: 100, Elixir: true, Timeout: time.Second}, got)
	want := `node:"a@b" pid:"<0.1.0>" registered_name:"r" label:"l" memory:1 reductions:2 message_queue_len:15 ` +
		`current_function:"c" initial_call:"i" status:"s" ` +
		`group_leader:{kind:"process" pid:"<0.2.0>" node:"x@y" registered_name:"user" initial_call:"g:l/0"} ` +
		`ancestors:{pid:"<0.6.0>"} links:{kind:"port" pid:"#Port<0.3>"} monitors:{pid:"<0.5.0>"} monitored_by:{pid:"<0.4.0>"} ` +
		`trap_exit:true error_handler:"error_handler" priority:"high" heap_size:4 total_heap_size:5 stack_size:6 ` +
		`min_heap_size:7 fullsweep_after:8 minor_gcs:9 max_heap_size:10 suspending_count:11 binary_count:12 binary_bytes:13 ` +
		`current_stacktrace:{function:"m:f/1" file:"m.erl" line:14} dictionary:{key:"k" value:"v" truncated:true} ` +
		`messages:{value:"hello"} missing:"binary: too many"`
	assert.Equal(t, want, strings.ReplaceAll(p.String(), "  ", " "))

	for syntax, q := range map[string]target.InspectQuery{
		"":       {ElixirGuess: true},
		"auto":   {ElixirGuess: true},
		"erlang": {},
	} {
		q.Node, q.Process = "a", "p"
		ask(&controlpb.InspectProcessRequest{Node: "a", Process: "p", Syntax: syntax})
		assert.Equal(t, q, got, syntax)
	}
}

func TestInspectAndKillRefuse(t *testing.T) {
	c := serve(t, &fakeEngine{}, Options{}).dial(t)
	long := strings.Repeat("x", 2000)
	for name, req := range map[string]*controlpb.InspectProcessRequest{
		"no node":      {Process: "p"},
		"long node":    {Node: long, Process: "p"},
		"no process":   {Node: "n"},
		"long process": {Node: "n", Process: long},
		"syntax":       {Node: "n", Process: "p", Syntax: "lisp"},
		"messages":     {Node: "n", Process: "p", Messages: MaxMessages + 1},
		"bytes":        {Node: "n", Process: "p", MaxBytes: MaxBytes + 1},
		"timeout":      {Node: "n", Process: "p", Timeout: durationpb.New(-1)},
	} {
		t.Run("inspect "+name, func(t *testing.T) {
			_, err := c.Processes.InspectProcess(testContext(t), req)
			requireCode(t, err, BadRequest)
		})
	}
	for name, req := range map[string]*controlpb.KillProcessRequest{
		"no node": {Process: "p"}, "timeout": {Node: "n", Process: "p", Timeout: durationpb.New(-1)},
	} {
		t.Run("kill "+name, func(t *testing.T) {
			_, err := c.Processes.KillProcess(testContext(t), req)
			requireCode(t, err, BadRequest)
		})
	}
}

// A request that is too large is refused before it is read.
func TestLargeRequest(t *testing.T) {
	c := serve(t, &fakeEngine{}, Options{}).dial(t)
	_, err := c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Reason: strings.Repeat("x", maxRequest)})
	assert.Contains(t, requireCode(t, err, Failed).Cause, "larger than max")
}

func TestKillTranslates(t *testing.T) {
	var got target.KillQuery
	e := &fakeEngine{kill: func(_ context.Context, q target.KillQuery) (target.KillResult, error) {
		got = q
		if q.Process == "init" {
			return target.KillResult{}, &target.HintError{Err: fmt.Errorf("kill <0.0.0> on a@b: %w: it is init", target.ErrProtected), Hint: "--force"}
		}
		return target.KillResult{Node: "a@b", Pid: "<0.1.0>", RegisteredName: "p", Reason: "bye", Alive: true}, nil
	}}
	c := serve(t, e, Options{}).dial(t)
	res, err := c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{
		Node: "a", Process: "p", Reason: "bye", Force: true, Timeout: durationpb.New(time.Second),
	})
	require.NoError(t, err)
	assert.Equal(t, target.KillQuery{Node: "a", Process: "p", Reason: "bye", Force: true, Timeout: time.Second}, got)
	assert.Equal(t, `node:"a@b" pid:"<0.1.0>" registered_name:"p" reason:"bye" alive:true`, strings.ReplaceAll(res.String(), "  ", " "))

	_, err = c.Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "a", Process: "init"})
	e2 := requireCode(t, err, Protected)
	assert.Equal(t, Error{
		Code: Protected, Tried: "kill init on a", Cause: "kill <0.0.0> on a@b: refused: it is init", Hint: "--force",
	}, *e2)
}

// A process with endless links and dictionary entries gives a bounded answer
// that says what it leaves out.
func TestDetailIsBounded(t *testing.T) {
	big := target.KeyValue{Key: "k", Value: strings.Repeat("v", 1<<20)}
	d := target.ProcessDetail{Links: make([]target.ProcessRef, 10)}
	for range 20 {
		d.Dictionary = append(d.Dictionary, big)
	}
	p := detailPB(d)
	assert.Len(t, p.GetDictionary(), 7)
	assert.Len(t, p.GetLinks(), 10)
	assert.Equal(t, []string{"dictionary: 13 of 20 are left out, the answer is too large"}, p.GetMissing())
}
