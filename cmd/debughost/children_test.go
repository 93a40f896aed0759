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
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// nursery is the supervisor of a member, made of a test's answers.
type nursery struct {
	m        *member
	children []supervisor.Child
	becomes  supervisor.State // what an act makes of a child
	acted    error
	lines    []sdk.LogLine
	explains supervisor.Explanation
	draining []string
	drained  chan struct{} // closed: the drain is done
	blobs    map[string][]byte
	answers  map[string]string // of the strategy, by operation
	since    uint64            // assignments since the one that a move answers
}

func (n *nursery) find(id string) (supervisor.Child, error) {
	i := slices.IndexFunc(n.children, func(c supervisor.Child) bool { return c.Spec.ID == id })
	if i < 0 {
		return supervisor.Child{}, fmt.Errorf("find child %s: %w", id, supervisor.ErrUnknown)
	}
	return n.children[i], nil
}

func (n *nursery) act(what, id string) (supervisor.Child, error) {
	n.m.note(what + " " + id)
	c, err := n.find(id)
	if err == nil {
		err = n.acted
	}
	c.State, c.Reason = n.becomes, ""
	return c, err
}

func (n *nursery) StartChild(_ context.Context, s supervisor.Spec) (supervisor.Child, error) {
	n.m.note(s)
	return supervisor.Child{Spec: s, State: supervisor.Starting, Member: "m1", Epoch: 1, Since: noon}, n.acted
}
func (n *nursery) StopChild(_ context.Context, id string) (supervisor.Child, error) {
	return n.act("stop", id)
}
func (n *nursery) RestartChild(_ context.Context, id string) (supervisor.Child, error) {
	return n.act("restart", id)
}
func (n *nursery) MoveChild(_ context.Context, id, to string) (supervisor.Child, error) {
	c, err := n.act("move to "+to, id)
	c.Member = to
	c.Epoch -= n.since
	return c, err
}
func (n *nursery) RemoveChild(_ context.Context, id string) error {
	_, err := n.act("remove", id)
	return err
}
func (n *nursery) Children(_ context.Context, f supervisor.Filter) ([]supervisor.Child, error) {
	n.m.note(f)
	return slices.DeleteFunc(slices.Clone(n.children), func(c supervisor.Child) bool {
		return f.State != "" && f.State != c.State || f.Strategy != "" && f.Strategy != c.Spec.Strategy || !strings.HasPrefix(c.Spec.ID, f.Prefix)
	}), n.acted
}
func (n *nursery) ChildByID(_ context.Context, id string) (supervisor.Child, error) {
	return n.find(id)
}
func (n *nursery) ChildLogs(_ context.Context, _ string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	n.m.note(o)
	for _, l := range n.lines {
		if err := emit(l); err != nil {
			return err
		}
	}
	return nil
}
func (n *nursery) CountChildren() supervisor.Count {
	count := supervisor.Count{Total: len(n.children), ByState: map[supervisor.State]int{}, ByMember: map[string]int{}}
	for _, c := range n.children {
		count.ByState[c.State]++
		count.ByMember[c.Member]++
	}
	return count
}
func (n *nursery) ChildRestarts() uint64              { return 0 }
func (n *nursery) ChildrenChanged() <-chan struct{}   { return n.drained }
func (n *nursery) ChildArbiter(string) string         { return "" }
func (n *nursery) ChildRunner(string) (string, error) { return "m1", nil }
func (n *nursery) DrainMember(_ context.Context, member string, undo bool) error {
	n.m.note(fmt.Sprint("drain ", member, " ", undo))
	if n.draining = nil; !undo {
		n.draining = []string{member}
	}
	return n.acted
}
func (n *nursery) DrainingMembers() []string { return n.draining }
func (n *nursery) Explain(_ context.Context, s supervisor.Spec) (supervisor.Explanation, error) {
	n.m.note(s)
	return n.explains, n.acted
}

// children is a member of two with a few children.
func children(t *testing.T) (*member, *nursery) {
	config := json.RawMessage(`{"command":["/opt/web","--port","80"],"env":{"TOKEN":"hunter2"}}`)
	n := &nursery{
		becomes: supervisor.Stopping,
		children: []supervisor.Child{
			{
				Spec: supervisor.Spec{
					ID: "web", Strategy: "process", Config: config, Restart: sdk.RestartPermanent, MaxRestarts: 3, MaxRestartsIn: 5 * time.Second,
					ShutdownTimeout: 5 * time.Second, Limits: sdk.SandboxLimits{Memory: 512_000_000, CPUs: 1.5, OpenFiles: 99},
					Constraints: map[string]string{"zone": "a"}, Near: "shop@db1", Apart: []string{"db"}, Handoff: sdk.HandoffNone,
				},
				State: supervisor.Running, Member: "m1", Epoch: 2, Restarts: 1, Since: noon.Add(-time.Minute), Started: noon.Add(-time.Minute),
				OSPid: 4711, Memory: 48_000_000, Enforced: map[string]string{"memory": "cgroup v2"},
				History: []supervisor.Entry{
					{Time: noon.Add(-time.Hour), Member: "m1", Epoch: 2, What: "started"},
					{Time: noon.Add(-2 * time.Minute), Member: "m1", Epoch: 2, What: "exited", Exit: &sdk.SandboxExit{Signal: 9, Reason: "uses more than 512 MB of memory", OutOfMemory: true}},
					{Time: noon.Add(-90 * time.Second), Member: "m1", Epoch: 2, What: "exited", Exit: &sdk.SandboxExit{Code: 1}, Reason: "evil\x1b[2J"},
					{Time: noon.Add(-time.Minute), Member: "m1", Epoch: 2, What: "restarted", Exit: &sdk.SandboxExit{Signal: 15}},
				},
			},
			{Spec: supervisor.Spec{ID: "batch", Strategy: "process", Restart: sdk.RestartTemporary}, State: supervisor.Exited, Member: "db2", Epoch: 1, Since: noon.Add(-49 * time.Hour)},
			{Spec: supervisor.Spec{ID: "waiting", Strategy: "process"}, State: supervisor.Pending, Reason: "no member has zone=z", Since: noon.Add(-3 * time.Second)},
		},
		lines: []sdk.LogLine{
			{Time: noon, Stream: "stdout", Line: []byte("hello")}, {Time: noon.Add(time.Second), Stream: "stderr", Line: []byte("evil \x1b[2J\xff, world")},
		},
		explains: supervisor.Explanation{
			Strategy: "placement-uniform", Chosen: "m1",
			Scores: []sdk.Score{{Member: "db2", Excluded: "it is being drained"}, {Member: "m1", Total: 0.123456, Parts: map[string]float64{"hash": 0.123456, "bonus": 0}}},
		},
	}
	c := &clusterMember{
		members: []cluster.Member{
			{Name: "db2", Addr: "10.0.0.2:7946", Version: "v1.0.0", State: cluster.Alive, Since: noon.Add(-time.Hour)},
			{Name: "m1", Addr: "10.0.0.1:7946", Version: "v1.0.0", State: cluster.Alive, Since: noon.Add(-time.Hour), Self: true},
		},
		quorum: cluster.Quorum{Size: 2, Alive: 2, Need: 2, Has: true},
	}
	n.m = &member{
		status:  control.Status{Member: "m1", Node: "debughost-1a2b3c4d@db1", Started: noon.Add(-time.Hour), DataDir: "/var/lib/debughost"},
		options: func(o *control.Options) { o.Cluster, o.Supervisor = c, n },
	}
	return serve(t, n.m), n
}

func TestChildList(t *testing.T) {
	m, n := children(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "child-list-"+format, m.do("child", "list", "-o", format))
	}
	r := m.do("child", "list", "w", "--state", "running", "--member", "m1", "--strategy", "process")
	assert.Equal(t, exitDone, r.code)
	assert.Equal(t, supervisor.Filter{State: "running", Member: "m1", Strategy: "process", Prefix: "w"}, m.last())
	n.children = nil
	assert.Equal(t, result{exitDone, "", "note: there are no such children; `debughost child start` starts one\n"}, m.do("child", "list"))
	assert.Equal(t, "{\"children\":[]}\n", m.do("child", "list", "-o", "json").out)
}

func TestChildShow(t *testing.T) {
	m, _ := children(t)
	golden(t, "child-show", m.do("child", "show", "web"))
	golden(t, "child-show-json", m.do("child", "show", "web", "-o", "json"))
	golden(t, "child-show-waiting", m.do("child", "show", "waiting"))
	r := m.do("child", "show", "gone")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "debughost: show child gone: find child gone: no such child\nhint: `debughost child list` tells what there is\n", r.err)
}

func TestChildActs(t *testing.T) {
	m, n := children(t)
	for args, want := range map[string][2]string{
		"child stop web":         {"child web is stopping on m1\n", "stop web"},
		"child restart web":      {"child web is stopping on m1\n", "restart web"},
		"child move web":         {"child web is stopping\n", "move to  web"},
		"child move web db2":     {"child web is stopping on db2\n", "move to db2 web"},
		"child remove web":       {"child web is removed\n", "remove web"},
		"child restart waiting":  {"child waiting is stopping\n", "restart waiting"},
		"child stop web -o json": {"", "stop web"},
	} {
		r := m.do(strings.Fields(args)...)
		assert.Equal(t, exitDone, r.code, args)
		assert.Equal(t, want[1], m.last(), args)
		if want[0] != "" {
			assert.Equal(t, want[0], r.out, args)
		}
	}
	golden(t, "child-stop-json", m.do("child", "stop", "web", "-o", "json"))
	n.becomes = supervisor.Moving
	assert.Equal(t, "child web is moving to db2\n", m.do("child", "move", "web", "db2").out)

	n.acted = &supervisor.UnconfirmedError{ID: "web", Disk: true}
	r := m.do("child", "stop", "web")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "it was done, but no other member has confirmed")
	assert.Contains(t, r.err, "\nhint: look at it with")
}

// Of several children each is reported, whatever becomes of the others; the exit
// code is that of the worst.
func TestActsOnSeveralChildren(t *testing.T) {
	m, n := children(t)
	r := m.do("child", "stop", "web", "waiting", "web")
	assert.Equal(t, result{exitDone, "child web is stopping on m1\nchild waiting is stopping\n", ""}, r)
	r = m.do("child", "restart", "none", "web", "--wait", "1s")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "child web is running on m1\n", r.out)
	assert.Contains(t, r.err, "find child none: no such child\nhint: ")
	r = m.do("child", "remove", "web", "a/b", "waiting")
	assert.Equal(t, exitUsage, r.code)
	assert.Equal(t, "child web is removed\nchild waiting is removed\n", r.out)
	assert.Contains(t, r.err, "is no child's id")

	r = m.do("child", "remove", "web", "none", "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.JSONEq(t, `{"removed":["web"],"errors":[{"id":"none","code":"unknown_child","error":"remove child none: find child none: no such child","hint":"`+"`debughost child list`"+` tells what there is"}]}`, r.out)
	var got struct {
		Children []childJSON
		Errors   []childErrorJSON
	}
	require.NoError(t, json.Unmarshal([]byte(m.do("child", "stop", "web", "waiting", "-o", "json").out), &got))
	assert.Len(t, got.Children, 2)
	assert.Empty(t, got.Errors)
	n.acted = &supervisor.UnconfirmedError{ID: "web", Disk: true}
	r = m.do("child", "stop", "web", "waiting")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
	r = m.do("child", "stop", "web", "waiting", "--wait", "-1s")
	assert.Equal(t, exitUsage, r.code)
}

// --wait waits for the state, and says what is there instead.
func TestChildWait(t *testing.T) {
	m, n := children(t)
	r := m.do("child", "restart", "web", "--wait", "1s")
	assert.Equal(t, result{exitDone, "child web is running on m1\n", ""}, r)
	n.drained = make(chan struct{})
	r = m.do("child", "stop", "web", "--wait", "1ms")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "child web is running on m1\n", r.out)
	assert.Contains(t, r.err, "wait for child web: it is not stopped after 1ms\nhint: `debughost child show web`")
	n.children[0].State, n.children[0].Reason = supervisor.Failed, "4 restarts in 5s"
	r = m.do("child", "restart", "web", "--wait", "1m")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "child web is failed on m1: 4 restarts in 5s\n", r.out)
	assert.Contains(t, r.err, "it has failed")
}

// A move that came to nothing is an error, also where the child runs by now.
func TestChildMoveFails(t *testing.T) {
	m, n := children(t)
	r := m.do("child", "move", "web", "db2", "--wait", "1s")
	assert.Equal(t, exitDone, r.code)
	web := &n.children[0]
	web.Epoch, n.since = 9, 1
	web.History = append(web.History, supervisor.Entry{Time: noon, Member: "m1", Epoch: 8, What: "not_moved", Reason: "an earlier one"})
	r = m.do("child", "move", "web", "db2", "--wait", "1s") // somebody else has moved it since
	assert.Equal(t, exitDone, r.code)
	web.History = append(web.History, supervisor.Entry{Time: noon, Member: "m1", Epoch: 9, What: "not_moved", Reason: "the move to member db2 failed: its disk is full"})
	r = m.do("child", "move", "web", "db2", "--wait", "1s")
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "child web is running on m1\n", r.out)
	assert.Contains(t, r.err, "move child web: it goes on where it was: the move to member db2 failed: its disk is full\nhint: `debughost child show web`")
	r = m.do("child", "restart", "web", "--wait", "1s")
	assert.Equal(t, exitDone, r.code)
}

func TestChildStart(t *testing.T) {
	m, n := children(t)
	t.Setenv("FROM_HERE", "a=b")
	r := m.do(strings.Fields("child start x --restart transient --max-restarts 10/1m --placement quorum --label zone=a --label disk=ssd --memory 512MB " +
		"--cpus 0.5 --processes 9 --files 99 --disk 1.5GiB --env A=1=2 --env FROM_HERE --dir /srv --near shop@db1 --apart web --apart db --shutdown 2s -- sleep 9 --x")...)
	assert.Equal(t, result{exitDone, "child x is starting on m1\n", ""}, r)
	got := m.last().(supervisor.Spec)
	assert.JSONEq(t, `{"command":["sleep","9","--x"],"dir":"/srv","env":{"A":"1=2","FROM_HERE":"a=b"}}`, string(got.Config))
	got.Config = nil
	assert.Equal(t, supervisor.Spec{
		ID: "x", Strategy: "process", Restart: sdk.RestartTransient, MaxRestarts: 10, MaxRestartsIn: time.Minute, Placement: "quorum",
		Constraints: map[string]string{"zone": "a", "disk": "ssd"}, Near: "shop@db1", Apart: []string{"web", "db"}, Handoff: sdk.HandoffNone,
		ShutdownTimeout: 2 * time.Second, Limits: sdk.SandboxLimits{Memory: 512_000_000, CPUs: 0.5, Processes: 9, OpenFiles: 99, Disk: 3 << 29},
	}, got)
	golden(t, "child-start-json", m.do("child", "start", "x", "-o", "json", "--", "true"))

	r = m.do("child", "start", "x", "--max-restarts", "0", "--", "true")
	require.Equal(t, exitDone, r.code)
	assert.Equal(t, -1, m.last().(supervisor.Spec).MaxRestarts, "none is tolerated")

	n.acted = &supervisor.ExistsError{ID: "x", Member: "db2", State: supervisor.Running}
	r = m.do("child", "start", "x", "--", "true")
	assert.Equal(t, result{exitFailed, "", "debughost: start child x: it exists already and is running on member db2\nhint: start it again with `debughost child restart x`, or remove it first\n"}, r)
	n.acted = &supervisor.SpecError{ID: "x", Problem: `restart: "often" is none`}
	assert.Equal(t, exitUsage, m.do("child", "start", "x", "--restart", "often", "--", "true").code)
}

// The example of the documentation is a spec, of which flags change what they name.
func TestChildSpecFile(t *testing.T) {
	m, _ := children(t)
	doc, err := os.ReadFile("../../docs/children.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(doc), "```toml\nid = ")
	require.True(t, ok, "docs/children.md has no spec")
	example, _, _ := strings.Cut("id = "+rest, "```")
	path := filepath.Join(t.TempDir(), "web.toml")
	require.NoError(t, os.WriteFile(path, []byte(example), 0o600))
	r := m.do("child", "start", "-f", path)
	require.Equal(t, result{exitDone, "child web is starting on m1\n", ""}, r)
	got := m.last().(supervisor.Spec)
	assert.JSONEq(t, `{"command":["/opt/web/bin/web","--port","8080"],"dir":"/opt/web","env":{"LANG":"C.UTF-8"}}`, string(got.Config))
	got.Config = nil
	want := supervisor.Spec{
		ID: "web", Strategy: "process", Restart: sdk.RestartPermanent, MaxRestarts: 3, MaxRestartsIn: 5 * time.Second, ShutdownTimeout: 5 * time.Second,
		Placement: "resources", Constraints: map[string]string{"zone": "a"}, Near: "shop@db1", Apart: []string{"batch"}, Handoff: sdk.HandoffNone,
		Limits: sdk.SandboxLimits{Memory: 512_000_000, CPUs: 1.5, Processes: 64, OpenFiles: 1024, Disk: 1_000_000_000},
	}
	assert.Equal(t, want, got)
	var file specFile
	for f := range specKeysOf(file) {
		assert.Contains(t, example, f+" = ", "docs/children.md does not have %s", f)
	}

	r = m.do("child", "start", "web", "-f", path, "--memory", "1GB", "--label", "disk=ssd", "--env", "MORE=1", "--max-restarts", "1", "--placement", "random")
	require.Equal(t, exitDone, r.code, r.err)
	got = m.last().(supervisor.Spec)
	assert.JSONEq(t, `{"command":["/opt/web/bin/web","--port","8080"],"dir":"/opt/web","env":{"LANG":"C.UTF-8","MORE":"1"}}`, string(got.Config))
	assert.Equal(t, uint64(1_000_000_000), got.Limits.Memory)
	assert.Equal(t, map[string]string{"zone": "a", "disk": "ssd"}, got.Constraints)
	assert.Equal(t, "1 random 1.5", fmt.Sprint(got.MaxRestarts, " ", got.Placement, " ", got.Limits.CPUs))

	r = commandWith(func(a *app) {
		a.in = strings.NewReader("id = 'y'\n[config]\ncommand = ['true']\nbig = 9007199254740993\n")
	}, "--addr", m.addr, "child", "start", "-f", "-")
	require.Equal(t, exitDone, r.code, r.err)
	assert.JSONEq(t, `{"command":["true"],"big":9007199254740993}`, string(m.last().(supervisor.Spec).Config))
}

// specKeysOf are the keys of a spec file that have a value, not a table.
func specKeysOf(specFile) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, key := range append(specKeys(nil), specKeys([]string{"limits", "x"})...) {
			if key != "limits" && key != "config" && key != "constraints" && !yield(key) {
				return
			}
		}
	}
}

func TestChildUsage(t *testing.T) {
	m, _ := children(t)
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, fmt.Sprintf("%d.toml", len(text)))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	before := m.last()
	for args, want := range map[string]string{
		"child start":                                                                       "start: ID is missing",
		"child start x":                                                                     "start: the command is missing",
		"child start x sleep 9":                                                             `one argument too many: "sleep" (a command goes behind --)`,
		"child start x y -- sleep":                                                          "one argument too many",
		"child start x --max-restarts often -- a":                                           `max-restarts "often" is not COUNT/TIME`,
		"child start x --max-restarts 3/0s -- a":                                            "is not COUNT/TIME",
		"child start x --max-restarts -1 -- a":                                              "is not COUNT/TIME",
		"child start x --memory lots -- a":                                                  `memory "lots" is not a size`,
		"child start x --disk -1MB -- a":                                                    "is not a size",
		"child start x --cpus -1 -- a":                                                      "is no number of processors",
		"child start x --cpus NaN -- a":                                                     "is no number of processors",
		"child start x --label zone -- a":                                                   `label "zone" is not NAME=VALUE`,
		"child start x --env NO_SUCH_VARIABLE -- a":                                         "there is no such variable here",
		"child start x --env =a -- a":                                                       "has no name",
		"child start x --wait -1s -- a":                                                     "wait -1s is not between",
		"child start x! -- a":                                                               "is no child's id",
		"child start -f " + file("id = 'y'") + " x":                                         `the id is "x", and "y" in`,
		"child start -f " + dir + "/none":                                                   "none: no such file",
		"child start x -f " + file("ids = 1\n\nlimits = { memroy = '1' }"):                  ".toml:1: ids: unknown key; keys are apart, config",
		"child start x -f " + file("\nlimits = { memory = 'much' }"):                        `.toml:2: limits: "much" is not a size`,
		"child start x -f " + file("\n\n\nmax_restarts_in = 'soon'"):                        `.toml:4: max_restarts_in: `,
		"child start x -f " + file("restart = 3"):                                           ".toml:1: restart: want a text in quotes, have integer",
		"child start x -f " + file("a = \n"):                                                ".toml:1: a: ",
		"child start x --env A=1 -f " + file("config = { command = ['a'], env = ['A=1'] }"): "is no table",
		"child list a b":                                                                    "one argument too many",
		"child list --state happy":                                                          `"happy" is no state of a child`,
		"child show":                                                                        "ID is missing",
		"child show x -o csv":                                                               "no rows",
		"child move":                                                                        "ID is missing",
		"child move a b c":                                                                  "one argument too many",
		"child logs":                                                                        "ID is missing",
		"child dance":                                                                       "unknown command",
		"drain":                                                                             "MEMBER is missing",
		"placement explain":                                                                 "ID is missing",
		"placement explain x --memory lots":                                                 "is not a size",
		"placement explain x y":                                                             "one argument too many",
		"placement":                                                                         "",
	} {
		r := m.do(strings.Fields(args)...)
		if want == "" {
			assert.Equal(t, exitDone, r.code, args)
			continue
		}
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.err, want, args)
	}
	r := m.do("child", "start", "x", "-f", file("ids = 1\n\nlimits = { memroy = '1' }"))
	assert.Contains(t, r.err, ".toml:3: limits.memroy: unknown key; keys are cpus, disk, memory, open_files, processes")
	_, started := m.last().(supervisor.Spec)
	assert.False(t, started, "%v after %v", m.last(), before)
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "512": 512, "512MB": 512_000_000, "1.5 GB": 1_500_000_000, "2GiB": 2 << 30, "1k": 1000, "3 KiB": 3072, "7b": 7, "1e3": 1000,
	} {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "MB", "-1", "1XB", "NaN", "Inf", "1e30", "9223372036854775808", "1 2"} {
		_, err := parseSize(in)
		assert.Error(t, err, in)
	}
}

func TestChildLogs(t *testing.T) {
	m, _ := children(t)
	r := m.do("child", "logs", "web", "--tail", "7")
	assert.Equal(t, result{exitDone, "hello\nevil \x1b[2J\xff, world\n", ""}, r, "as it was printed")
	assert.Equal(t, sdk.LogOptions{Tail: 7}, m.last())
	r = commandWith(func(a *app) { a.outTTY = true }, "--addr", m.addr, "child", "logs", "web")
	assert.Equal(t, "hello\nevil \\x1B[2J\\xFF, world\n", r.out, "harmless on a terminal")
	golden(t, "child-logs-json", m.do("child", "logs", "web", "-o", "json"))
	golden(t, "child-logs-csv", m.do("child", "logs", "web", "-o", "csv"))
	r = m.do("child", "logs", "gone")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "read the log of child gone")
	m.do("child", "logs", "-f", "web", "--timeout", "1ms")
	assert.Equal(t, sdk.LogOptions{Follow: true}, m.last())
}

func TestPlacementExplain(t *testing.T) {
	m, n := children(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "placement-"+format, m.do("placement", "explain", "web", "-o", format))
	}
	assert.Equal(t, "web", m.last().(supervisor.Spec).ID)
	assert.Len(t, m.last().(supervisor.Spec).Apart, 1, "the child's own spec")
	r := m.do("placement", "explain", "new", "--memory", "2GB", "--placement", "resources")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, "new resources 2000000000", fmt.Sprint(m.last().(supervisor.Spec).ID, " ", m.last().(supervisor.Spec).Placement, " ", m.last().(supervisor.Spec).Limits.Memory))
	n.explains = supervisor.Explanation{Strategy: "placement-quorum", Reason: "no quorum: 1 of 3 members answer"}
	r = m.do("placement", "explain", "web")
	assert.Equal(t, exitDone, r.code)
	assert.True(t, strings.HasPrefix(r.out, "placement-quorum chooses no member: no quorum: 1 of 3 members answer\n"), r.out)
	r = m.do("placement", "explain", "new")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "hint: of one that is yet to be started, say more")
}

func TestDrain(t *testing.T) {
	m, n := children(t)
	n.drained = make(chan struct{})
	r := m.do("drain", "m1", "--no-wait")
	assert.Equal(t, result{exitDone, "m1 is being drained, 1 children run there\n", ""}, r)
	assert.Contains(t, m.do("drain", "nobody").err, "there is no such member\nhint: `debughost members`")
	n.children[0].Reason = "no other member has zone=a"
	r = m.do("drain", "m1", "--timeout", "300ms")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "m1: 1 of 1 children left (web: no other member has zone=a)\n")
	assert.Contains(t, r.err, "note: the drain of m1 goes on: 1 of 1 children left")
	golden(t, "members-draining", m.do("members"))
	golden(t, "status-draining", result{0, statusChildren(t, m), ""})
	r = m.do("drain", "m1", "--undo")
	assert.Equal(t, result{exitDone, "m1 takes children again\n", ""}, r)
	n.children[0].Member = "db2"
	r = m.do("drain", "m1")
	assert.Equal(t, result{exitDone, "m1 is drained: no child runs there\n", "m1: 0 of 0 children left\n"}, r)
	golden(t, "drain-json", m.do("drain", "m1", "-o", "json"))
}

// statusChildren is what the status says of children.
func statusChildren(t *testing.T, m *member) string {
	t.Helper()
	r := m.do("status", "-o", "json")
	require.Equal(t, exitDone, r.code, r.err)
	var st struct {
		Children map[string]int `json:"children"`
		Members  []struct {
			Name     string `json:"name"`
			Children int    `json:"children"`
			Draining bool   `json:"draining"`
		} `json:"members"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &st))
	b, err := json.MarshalIndent(st, "", "  ")
	require.NoError(t, err)
	text := m.do("status").out
	i := strings.Index(text, "children")
	require.GreaterOrEqual(t, i, 0, text)
	line, _, _ := strings.Cut(text[i:], "\n")
	return string(b) + "\n" + line + "\n"
}

func TestChildCompletion(t *testing.T) {
	defer func(was time.Duration) { completionTime = was }(completionTime)
	completionTime = time.Minute
	m, _ := children(t)
	for args, want := range map[string]string{
		"child show ":              "batch waiting web",
		"child stop w":             "waiting web",
		"child move web ":          "db2 m1",
		"child move web db2 ":      "",
		"child list --state ":      strings.Join(control.ChildStates(), " "),
		"child start --strategy ":  "process beam",
		"child start --placement ": "uniform quorum random resources",
		"child start --apart b":    "batch",
		"drain ":                   "db2 m1",
		"placement explain wa":     "waiting",
		"supervisor ":              "restart terminate",
	} {
		assert.Equal(t, want, strings.Join(completions(m, strings.Split(args, " ")...), " "), args)
	}
}
