package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

func TestTargets(t *testing.T) {
	m := shop(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "targets-"+format, m.do("targets", "-o", format))
	}
	i := slices.IndexFunc(m.targets, func(i target.Info) bool { return i.Node == "shop@db1" })
	m.targets[i].Cost = target.Cost{
		Since: noon.Add(-90 * time.Second), Calls: 321, Failed: 1, TimedOut: 2, CallTime: 1500 * time.Millisecond,
		Received: 12_345_678, Sent: 54_321, Reductions: 9_876_543, Rows: 1000, LogEvents: 4, LogDropped: 5, Collections: 6, Slowed: 7, Cut: 8,
	}
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "targets-cost-"+format, m.do("targets", "--cost", "-o", format))
	}
	empty := serve(t, &member{})
	assert.Contains(t, empty.do("targets", "--cost").err, "no node was found yet")
	assert.Equal(t, "{\"targets\":[]}\n", empty.do("targets", "-o", "json").out)
	assert.Contains(t, empty.do("targets").err, "no node was found yet")
}

func TestPlugins(t *testing.T) {
	m := shop(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "plugins-"+format, m.do("plugins", "-o", format))
	}
	empty := serve(t, &member{})
	assert.Equal(t, "{\"plugins\":[]}\n", empty.do("plugins", "-o", "json").out)
	assert.Contains(t, empty.do("plugins").err, "no plugin is configured")
}

func TestStatus(t *testing.T) {
	m := shop(t)
	r := m.do("status")
	require.Equal(t, exitDone, r.code, r.err)
	for _, want := range []string{
		"member              m1, ", "up                  3h02m\n", "node                debughost-1a2b3c4d@db1\n",
		"config              built-in defaults\n", "targets             1 attached, 2 refused\n",
		"local     discovery-epmd  running      3   2s ago\n", "prod      discovery-x     failing      0    never  EPMD of db9: no answer\n",
		"warning: the data directory is read-only\n",
	} {
		assert.Contains(t, r.out, want)
	}
	var doc struct{ Status statusJSON }
	r = m.do("status", "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(r.out), &doc))
	st := doc.Status
	assert.Equal(t, map[string]uint32{"attached": 1, "refused": 2}, st.Targets)
	assert.Equal(t, "exit status 1, five times", st.Plugins[1].Reason)
	assert.Equal(t, "failed", st.Plugins[1].State)
	assert.Equal(t, int64(os.Getpid()), st.OSPid)
	assert.Equal(t, noon.Add(-2*time.Second), st.Topologies[0].Updated.UTC())
	assert.Nil(t, st.Topologies[1].Updated)

	empty := serve(t, &member{}).do("status", "-o", "json")
	for _, list := range []string{`"topologies": []`, `"plugins": []`, `"warnings": []`, `"targets": {}`} {
		assert.Contains(t, empty.out, list)
	}
	assert.Contains(t, serve(t, &member{status: control.Status{ConfigFile: "/c"}}).do("status").out, "targets             none\n")
}

func detail() target.ProcessDetail {
	return target.ProcessDetail{
		Process: target.Process{
			Node: "shop@db1", Pid: "<0.123.0>", RegisteredName: "Elixir.Shop.Orders", Memory: 48_213_008, Reductions: 120_345,
			MessageQueueLen: 182_311, CurrentFunction: "Elixir.Shop.Orders:handle_cast/2", InitialCall: "Elixir.Shop.Orders:init/1", Status: "running",
		},
		Label:             "orders",
		GroupLeader:       target.ProcessRef{Kind: "process", Pid: "<0.66.0>", InitialCall: "group:server/4"},
		Parent:            target.ProcessRef{Kind: "process", Pid: "<0.122.0>", RegisteredName: "Elixir.Shop.Supervisor"},
		Links:             []target.ProcessRef{{Kind: "process", Pid: "<0.122.0>", RegisteredName: "Elixir.Shop.Supervisor"}, {Kind: "port", Pid: "#Port<0.7>"}},
		MonitoredBy:       []target.ProcessRef{{Kind: "process", Pid: "<7.9.0>", Node: "cart@db2"}},
		TrapExit:          true,
		ErrorHandler:      "error_handler",
		Priority:          "normal",
		HeapSize:          233,
		TotalHeapSize:     220_090,
		StackSize:         20,
		MinHeapSize:       233,
		FullsweepAfter:    65535,
		MinorGCs:          4,
		MaxHeapSize:       1000,
		SuspendingCount:   2,
		Binaries:          3,
		BinaryBytes:       4096,
		LargestBinaries:   []target.HeldBinary{{Size: 4000, RefC: 7, Times: 2}},
		Callers:           []target.ProcessRef{{Kind: "process", Pid: "<0.99.0>", RegisteredName: "Elixir.Shop.Web"}},
		CurrentStacktrace: []target.Frame{{Function: "Elixir.Shop.Orders:handle_cast/2", File: "lib/orders.ex", Line: 12}, {Function: "proc_lib:init_p/5"}},
		Dictionary:        []target.KeyValue{{Key: ":\"$initial_call\"", Value: "{Shop.Orders, :init, 1}"}, {Key: ":big", Value: "\"aaaa", Truncated: true}},
		Messages:          []target.KeyValue{{Value: "{:order,\n 1}"}},
		MessagesTotal:     182_311,
		Missing:           []string{"binary: not asked"},
	}
}

func TestInspect(t *testing.T) {
	m := serve(t, &member{detail: detail()})
	golden(t, "inspect-table", m.do("inspect", "shop@db1", "Shop.Orders", "--messages", "1"))
	golden(t, "inspect-json", m.do("inspect", "shop@db1", "Shop.Orders", "-m", "1", "-o", "json"))
	assert.Equal(t, target.InspectQuery{Node: "shop@db1", Process: "Shop.Orders", Messages: 1, MaxBytes: 4096, ElixirGuess: true}, m.last())
	m.do("inspect", "a", "b", "--syntax", "erlang", "--max-bytes", "10", "--timeout", "2s")
	assert.Equal(t, target.InspectQuery{Node: "a", Process: "b", MaxBytes: 10, Timeout: 2 * time.Second}, m.last())

	m.detail = target.ProcessDetail{Process: target.Process{Node: "a@b", Pid: "<0.1.0>", MessageQueueLen: 5}}
	golden(t, "inspect-bare-json", m.do("inspect", "a@b", "0.1.0", "-o", "json"))
	assert.Contains(t, m.do("inspect", "a@b", "0.1.0").err, "5 messages wait; --messages 3 shows the oldest three")
	m.detail.MessageQueueLen = queueAlarm
	r := commandWith(func(a *app) { a.outTTY = true }, "--addr", m.addr, "inspect", "a", "b")
	assert.Contains(t, r.out, "message_queue_len   \x1b[1;31m1000\x1b[0m\n")

	m.acted = fmt.Errorf("inspect <0.1.0> on a@b: %w", target.ErrNoProcess)
	r = m.do("inspect", "a", "b")
	assert.Equal(t, result{exitFailed, "", "debughost: inspect <0.1.0> on a@b: noproc\n"}, r)
}

func TestKill(t *testing.T) {
	m := serve(t, &member{killed: target.KillResult{Node: "shop@db1", Pid: "<0.1.0>", RegisteredName: "Elixir.A", Reason: "kill"}})
	r := m.do("kill", "shop", "A")
	assert.Equal(t, result{exitDone, "ended <0.1.0> (A) on shop@db1 with reason kill\n", ""}, r)
	assert.Equal(t, target.KillQuery{Node: "shop", Process: "A", Reason: "kill"}, m.last())
	golden(t, "kill-json", m.do("kill", "shop", "A", "-o", "json"))

	m.killed.Alive, m.killed.Reason = true, ":bye"
	r = m.do("kill", "shop", "A", "--reason", ":bye", "--force", "--timeout", "1s")
	assert.Equal(t, "sent exit reason :bye to <0.1.0> (A) on shop@db1; it is still alive\n", r.out)
	assert.Equal(t, exitDone, r.code)
	assert.Equal(t, target.KillQuery{Node: "shop", Process: "A", Reason: ":bye", Force: true, Timeout: time.Second}, m.last())

	m.acted = &target.HintError{Err: fmt.Errorf("kill <0.0.0> on shop@db1: %w: it is init", target.ErrProtected), Hint: "--force does it all the same"}
	r = m.do("kill", "shop", "init")
	assert.Equal(t, result{exitFailed, "", "debughost: kill <0.0.0> on shop@db1: refused: it is init\nhint: --force does it all the same\n"}, r)
	m.acted = fmt.Errorf("read reason: %w", target.ErrBadQuery)
	assert.Equal(t, exitUsage, m.do("kill", "shop", "init", "-r", "{").code)
}

func TestEvents(t *testing.T) {
	m := shop(t)
	at := noon.Add(-time.Hour)
	m.now = func() time.Time { return at }
	m.bus.Publish(events.Event{Type: events.MemberStarted})
	at = noon
	m.bus.Publish(events.Event{Type: events.TargetLost, Node: "shop@db1", Reason: "connection\nclosed", Fields: map[string]string{"b": "2", "a": "1"}})
	m.bus.Publish(events.Event{Type: events.PluginExited, Plugin: "discovery-epmd", Topology: "local"})
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "events-"+format, m.do("events", "-o", format))
	}
	assert.Equal(t, 2, strings.Count(m.do("events", "--since", "5m").out, "\n"))
	assert.Equal(t, 1, strings.Count(m.do("events", "--type", "target_lost,target_found").out, "\n"))
	r := m.do("events", "--type", "target_eaten")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "hint: types are target_found, ")
	assert.Equal(t, exitUsage, m.do("events", "--since", "yesterday").code)
}

// Following goes on until the user stops it, which is no failure.
func TestEventsFollow(t *testing.T) {
	m := shop(t)
	m.bus.Publish(events.Event{Type: events.MemberStarted})
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	out := &screens{stop: stop}
	out.enough = func(s *screens) bool {
		if strings.Count(s.String(), "\n") == 1 {
			m.bus.Publish(events.Event{Type: events.TargetFound, Node: "a@b"}) // happens while it follows
		}
		return strings.Contains(s.String(), "a@b")
	}
	a := newApp(strings.NewReader(""), out, os.Stderr)
	code := a.run(ctx, []string{"--addr", m.addr, "events", "-f", "-o", "json"})
	assert.Equal(t, exitDone, code)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	var e eventJSON
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &e))
	assert.Equal(t, eventJSON{Time: noon, Type: "target_found", Node: "a@b", Member: "m1", Seq: 2}, e)

	r := m.do("events", "-f", "--timeout", "1ms") // and the grace
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "no answer in time")
}

func TestParseSince(t *testing.T) {
	zone := time.FixedZone("x", 3600)
	now := noon.In(zone)
	for in, want := range map[string]time.Time{
		"10m":                  noon.Add(-10 * time.Minute),
		"0s":                   noon,
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05":  time.Date(2026, 1, 2, 3, 4, 5, 0, zone),
		"2026-01-02 03:04":     time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, zone),
	} {
		got, err := parseSince(in, now)
		require.NoError(t, err, in)
		assert.True(t, want.Equal(got), "%s: %v", in, got)
	}
	for _, in := range []string{"-5m", "x", "25:00"} {
		_, err := parseSince(in, now)
		assert.Error(t, err, in)
	}
}

func TestVersion(t *testing.T) {
	m := serve(t, &member{})
	r := m.do("version", "-o", "json")
	var v versionJSON
	require.NoError(t, json.Unmarshal([]byte(r.out), &v))
	assert.NotEmpty(t, v.Go)
	require.NotNil(t, v.Running)
	assert.Equal(t, v.Version, v.Running.Version)
	assert.Empty(t, m.do("version").err)

	version = "v9.9.9"
	defer func() { version = "" }()
	r = m.do("version")
	assert.Contains(t, r.out, "debughost v9.9.9 (")
	assert.Contains(t, r.err, "the debughost that runs is another: ")
	r = command("--addr", filepath.Join(t.TempDir(), "none"), "version")
	assert.Equal(t, exitDone, r.code)
	assert.Empty(t, r.err)
	assert.Equal(t, "v1 (commit abc, go1)", versionText(versionJSON{Version: "v1", Commit: "abc", Go: "go1"}))
	assert.Contains(t, command("--version").out, "debughost v9.9.9\n")
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	require.NoError(t, os.WriteFile(bad, []byte("[log]\nlevel = \"loud\"\n[nod]\nname = 3\n"), 0o600))
	r := command("config", "print")
	require.Equal(t, exitDone, r.code)
	require.NoError(t, os.WriteFile(good, []byte(r.out), 0o600))
	r = command("config", "check", good)
	assert.Equal(t, result{exitDone, good + " is in order\n", ""}, r)
	r = command("config", "check", bad)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "bad.toml:2: log.level: ")
	assert.Contains(t, r.err, "nod")
	assert.Equal(t, exitUsage, command("config", "check", good, bad).code)
	assert.Equal(t, exitUsage, command("config", "chek").code)
	assert.Contains(t, command("config").out, "config reload")

	m := serve(t, &member{})
	assert.Equal(t, "configuration reloaded\n", m.do("config", "reload").out)
	m.acted = hinted("read configuration: log.level: nope", "fix it")
	assert.Equal(t, result{exitFailed, "", "debughost: reload config: read configuration: log.level: nope\nhint: fix it\n"}, m.do("config", "reload"))
}
