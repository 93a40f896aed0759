package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

func TestPs(t *testing.T) {
	m := shop(t)
	golden(t, "ps-table", m.do("ps"))
	golden(t, "ps-json", m.do("ps", "-o", "json"))
	golden(t, "ps-csv", m.do("ps", "-o", "csv"))
	m.rows[0].Rate, m.rows[1].Rate, m.rows[2].Rate = 1_234_567.8, 0, -2048
	golden(t, "ps-window-table", m.do("ps", "--window", "1s"))
	golden(t, "ps-window-reductions", m.do("ps", "--window", "1s", "--sort", "reductions"))
	golden(t, "ps-window-json", m.do("ps", "--window", "1s", "-o", "json"))
	golden(t, "ps-window-csv", m.do("ps", "--window", "1s", "-o", "csv"))
}

// On a terminal a long queue stands out, and columns are cut to fit.
func TestPsTerminal(t *testing.T) {
	m := shop(t)
	m.rows = m.rows[:2]
	m.rows[1].CurrentFunction = "Elixir.A.Module.With.A.Very.Long.Name.Indeed:handle_something/3"
	tty := func(a *app) { a.outTTY, a.width = true, func() int { return 130 } }
	golden(t, "ps-terminal", commandWith(tty, "--addr", m.addr, "ps"))
	t.Setenv("NO_COLOR", "1")
	r := commandWith(tty, "--addr", m.addr, "ps")
	assert.NotContains(t, r.out, "\x1b")
}

func TestPsAsks(t *testing.T) {
	m := shop(t)
	for _, c := range []struct {
		args string
		want target.ProcessQuery
	}{
		{"", target.ProcessQuery{Sort: target.ByMemory, Limit: 20}},
		{"shop cart@db2", target.ProcessQuery{Nodes: []string{"shop", "cart@db2"}, Sort: target.ByMemory, Limit: 20}},
		{"--sort message_queue_len -n 3 --offset 6", target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 3, Offset: 6}},
		{"-s reductions --window 1s", target.ProcessQuery{Sort: target.ByReductions, Window: time.Second, Limit: 20}},
		{"-f Cart --function m:f/1 --application ecto --limit 0", target.ProcessQuery{Sort: target.ByMemory, Filter: "Cart", Function: "m:f/1", Application: "ecto"}},
		{"--timeout 3s", target.ProcessQuery{Sort: target.ByMemory, Limit: 20, Timeout: 3 * time.Second}},
	} {
		m.do(append([]string{"ps"}, strings.Fields(c.args)...)...)
		assert.Equal(t, c.want, m.last(), c.args)
	}
}

func TestPsExitCodes(t *testing.T) {
	all := shop(t)
	rows, failed := all.rows, all.failed
	for _, c := range []struct {
		name   string
		rows   []target.Process
		failed []target.NodeError
		args   []string
		code   int
	}{
		{"all answer", rows, nil, nil, exitDone},
		{"some fail", rows, failed, nil, exitPartial},
		{"some fail, the others have no such process", nil, failed, nil, exitPartial}, // shop@db1 is attached
		{"all that were asked fail", nil, failed, []string{"cart", "mail@db2"}, exitFailed},
		{"nothing matches", nil, nil, nil, exitDone},
	} {
		t.Run(c.name, func(t *testing.T) {
			all.rows, all.failed = c.rows, c.failed
			for _, format := range []string{"table", "json", "csv"} {
				r := all.do(append([]string{"ps", "-o", format}, c.args...)...)
				assert.Equal(t, c.code, r.code, format)
				if format == "json" {
					assert.Empty(t, r.err)
				} else {
					assert.Equal(t, len(c.failed), strings.Count(r.err, "debughost: "), r.err)
				}
			}
		})
	}
	all.whole = hinted("a ranking of 9 rows: bad query", "")
	r := all.do("ps")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "debughost: list processes: a ranking of 9 rows: bad query\n", r.err)
}

func TestPsSaysWhyItIsEmpty(t *testing.T) {
	m := serve(t, &member{})
	r := m.do("ps")
	assert.Contains(t, r.err, "no node is attached; `debughost targets` tells why")
	assert.Equal(t, "{\"processes\":[],\"errors\":[]}\n", m.do("ps", "-o", "json").out)
	m.targets = []target.Info{{Node: "a@b", State: target.Attached}}
	assert.Contains(t, m.do("ps").err, "no process matches")
}

// A whole table comes unranked, and is ranked here.
func TestPsAllIsSorted(t *testing.T) {
	m := serve(t, &member{rows: []target.Process{
		{Node: "b@h", Pid: "<0.10.0>", Memory: 5, Reductions: 1, MessageQueueLen: 1},
		{Node: "a@h", Pid: "<0.10.0>", Memory: 5, Reductions: 2, MessageQueueLen: 1},
		{Node: "a@h", Pid: "<0.9.0>", Memory: 5, Reductions: 3, MessageQueueLen: 3},
		{Node: "c@h", Pid: "<0.1.0>", Memory: 7, Reductions: 0, MessageQueueLen: 2},
	}})
	for sort, want := range map[string]string{
		"memory":            "c@h<0.1.0> a@h<0.9.0> a@h<0.10.0> b@h<0.10.0> ",
		"reductions":        "a@h<0.9.0> a@h<0.10.0> b@h<0.10.0> c@h<0.1.0> ",
		"message_queue_len": "a@h<0.9.0> c@h<0.1.0> a@h<0.10.0> b@h<0.10.0> ",
	} {
		r := m.do("ps", "--limit", "0", "--sort", sort, "-o", "json")
		require.Equal(t, exitDone, r.code, r.err)
		var doc struct{ Processes []processJSON }
		require.NoError(t, json.Unmarshal([]byte(r.out), &doc))
		got := ""
		for _, p := range doc.Processes {
			got += p.Node + p.Pid + " "
		}
		assert.Equal(t, want, got, sort)
	}
	// With a limit the order is the member's.
	r := m.do("ps", "-o", "csv")
	rows, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
	require.NoError(t, err)
	assert.Equal(t, "b@h", rows[1][0])
}

func TestPsManyRows(t *testing.T) {
	const n = 20_000
	m := serve(t, &member{rows: make([]target.Process, n)})
	for i := range m.rows {
		m.rows[i] = target.Process{Node: "a@h", Pid: fmt.Sprintf("<0.%d.0>", i), Memory: uint64(i), CurrentFunction: fmt.Sprint("m:f/", i%200)}
	}
	later := noon
	r := commandWith(func(a *app) {
		a.errTTY = true
		a.now = func() time.Time { later = later.Add(100 * time.Millisecond); return later }
	}, "--addr", m.addr, "ps", "--limit", "0", "-o", "csv")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, n+1, strings.Count(r.out, "\n"))
	assert.True(t, strings.HasPrefix(strings.SplitN(r.out, "\n", 3)[1], "a@h,<0.19999.0>,"))
	assert.Contains(t, r.err, "1000 processes so far…")
	assert.True(t, strings.HasSuffix(r.err, "\r\x1b[K"), "the progress line stays")
}

// screens counts what watch shows and ends it after some.
type screens struct {
	bytes.Buffer
	enough func(*screens) bool
	stop   func()
}

func (s *screens) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if s.enough(s) {
		s.stop()
	}
	return n, err
}

func watch(t *testing.T, m *member, tty bool, args ...string) (string, int) {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	out := &screens{stop: stop, enough: func(s *screens) bool {
		return strings.Count(s.String(), "REGISTERED_NAME")+strings.Count(s.String(), `"processes"`) >= 3
	}}
	var errs bytes.Buffer
	a := newApp(strings.NewReader(""), out, &errs)
	a.outTTY = tty
	code := a.run(ctx, append([]string{"--addr", m.addr, "ps", "--watch", "1ms"}, args...))
	return out.String(), code
}

func TestPsWatch(t *testing.T) {
	m := shop(t)
	m.rows = m.rows[1:2]
	out, code := watch(t, m, false)
	assert.Equal(t, exitDone, code)
	require.Equal(t, 3, strings.Count(out, "code_server:loop"), out)
	assert.Equal(t, 2, strings.Count(out, "\n\n"))
	out, _ = watch(t, m, true)
	assert.Equal(t, 3, strings.Count(out, "\x1b[H\x1b[2J"))
	out, _ = watch(t, m, false, "-o", "json")
	dec := json.NewDecoder(strings.NewReader(out))
	for range 3 {
		var doc map[string]any
		require.NoError(t, dec.Decode(&doc))
	}
	m.whole = hinted("boom", "")
	assert.Equal(t, exitFailed, m.do("ps", "--watch", "1ms").code)
}

func TestAnswerCutShort(t *testing.T) {
	// A member that dies in the middle of an answer.
	m := serve(t, &member{})
	m.whole = &control.Error{Code: control.Stopping, Cause: "list processes: debughost is stopping"}
	r := m.do("ps")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
}
