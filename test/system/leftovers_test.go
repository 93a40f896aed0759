package system

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// asking is a question that somebody asks by the command line; NODE in its
// arguments is the node.
type asking struct {
	args  []string
	stdin string // is left open behind it
	// under is true on the node while the question is under way there.
	under string
	// timed says that it ends by itself within the second that it gets.
	timed bool
	// undo ends what an answered question leaves until its debughost goes.
	undo []string
}

func ask(args ...string) []string { return args }

// frame is true while some process runs a function of the helper's.
func frame(name string) string {
	return `lists:keymember(` + name + `, 2, [F || {_, F} <- fingerprint:frames()])`
}

// answered are all kinds of questions that have an answer soon, with code and in
// plain calls. What acts leave by their purpose is not among them.
var answered = [][]string{
	ask("ps", "NODE", "--limit", "5"),
	ask("ps", "NODE", "--limit", "5", "--sort", "reductions", "--window", "100ms", "--filter", "fixture"),
	ask("ps", "NODE", "--limit", "0", "-o", "csv"),
	ask("inspect", "NODE", "fixture_worker", "-m", "5"),
	ask("inspect", "NODE", "fixture_worker", "--graph", "--depth", "2"),
	ask("state", "NODE", "fixture_worker", ".items"),
	ask("tree", "NODE"),
	ask("apps", "NODE"),
	ask("apps", "NODE", "kernel", "--env"),
	ask("system", "NODE", "--window", "100ms"),
	ask("ets", "NODE"),
	ask("ets", "NODE", "fixture_rows", "--limit", "10"),
	ask("ets", "NODE", "fixture_rows", "--key", "7"),
	ask("mnesia", "NODE"),
	ask("ports", "NODE"),
	ask("names", "NODE"),
	ask("groups", "NODE"),
	ask("timers", "NODE"),
	ask("diagnose", "NODE", "--window", "100ms", "--deep", "--gc", "--monitor", "100ms"),
	ask("snapshot", "NODE", "-f", "FILE"),
	ask("eval", "NODE", "--erlang", "lists:sum(lists:seq(1, 1000))"),
	ask("send", "NODE", "fixture_named", "hello"),
	ask("gc", "NODE", "fixture_worker"),
	ask("suspend", "NODE", "fixture_named"),
	ask("resume", "NODE", "fixture_named"),
}

// lasting are all kinds that put something on a node for as long as they last. One
// debughost walks twice at once over a node: they are asked of two.
var lasting = [2][]asking{{
	{args: ask("ps", "NODE", "--limit", "5", "--window", "30m"), under: frame("top")},
	{args: ask("diagnose", "NODE", "--window", "1ms", "--monitor", "10m"), under: frame("collect")},
	{args: ask("system", "NODE", "--window", "1m"), under: `statistics(scheduler_wall_time) =/= undefined`},
	{args: ask("logs", "NODE", "-f", "--level", "debug", "--set-level"), under: `element(2, lists:keyfind(level, 1, maps:to_list(logger:get_primary_config()))) =:= debug`},
	{args: ask("eval", "NODE", "--erlang", "register(evaluated, self()), process_flag(trap_exit, true), receive never -> ok end"), under: `is_pid(whereis(evaluated))`, timed: true},
	{args: ask("suspend", "NODE", "fixture_held"), under: `process_info(whereis(fixture_held), status) =:= {status, suspended}`, undo: ask("resume", "NODE", "fixture_held")},
}, {
	{args: ask("ps", "NODE", "--limit", "0", "--timeout", "10m"), under: frame("part")},
	{args: ask("ets", "NODE", "fixture_rows", "--match", "{_, none}", "--timeout", "10m"), under: frame("page"), timed: true},
	{args: ask("remsh", "NODE", "--erlang"), stdin: "register(shelled, self()), process_flag(trap_exit, true), receive never -> ok end.\n", under: `is_pid(whereis(shelled))`},
	{args: ask("state", "NODE", "fixture_busy", "--timeout", "10m"), under: `process_info(whereis(fixture_busy), message_queue_len) =/= {message_queue_len, 0}`, timed: true},
	{args: ask("registry", "register", "KEY", "--node", "NODE", "--pid", "fixture_named"), under: `process_info(whereis(fixture_named), monitored_by) =/= {monitored_by, []}`, undo: ask("registry", "unregister", "KEY")},
}}

// configs are in force while they are asked: what walks for the second takes its
// time, as small budgets have it.
var configs = [2]string{quiet, quiet + "[targets]\nscheduler_share = 1\nbytes_per_second = 262144\n"}

const quiet = "[metrics]\naddress = \"\"\n"

// TestNothingIsLeft asks everything there is to ask of a node, ends the asking in
// each way, and compares all that the node tells of itself with how it was before.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			b := s.node(t, erltest.Options{OTP: otp, NetTickTime: 4 * time.Second})
			b.LoadModule(t, "fingerprint", fingerprint)
			b.LoadModule(t, "fixture", fixture)
			b.MustEval(t, "fixture:start()")
			// A process of the node that still has our question when we are gone
			// answers it, and the node then looks for us as for any other asker:
			// what it starts to look up names is its own, and stays.
			b.MustEval(t, `element(1, inet_gethost_native:gethostbyname("localhost"))`)
			b.MustEval(t, "fingerprint:start()")
			b.MustEval(t, "fingerprint:base()")
			require.Equal(t, "[]", b.MustEval(t, "fingerprint:changes(all)"))
			l := &leftovers{t: t, site: s, beam: b, config: filepath.Join(s.home, "config.toml")}

			l.start()
			for _, args := range answered {
				l.hosts[0].Exit(t, 0, l.words(0, args)...)
			}
			l.unchanged("answered", "attached")

			l.begin(func(q *asking) bool { return q.timed }, "--timeout", "1s")
			l.await()
			l.unchanged("timed out", "attached")
			l.begin(all)
			l.each(func(p *person) { p.leave() })
			l.undo()
			l.unchanged("given up", "attached")

			l.begin(all)
			l.signal(syscall.SIGTERM)
			l.await()
			l.unchanged("detached", "all")

			l.start()
			l.begin(all)
			l.signal(syscall.SIGKILL)
			l.await()
			l.unchanged("killed", "all")

			l.start()
			l.begin(all)
			l.signal(syscall.SIGSTOP)
			b.Await(t, "nodes(connected)", "[]")
			l.unchanged("lost in the network", "all")
		})
	}
}

func all(*asking) bool { return true }

// leftovers is one node, two debughosts, and those who ask them.
type leftovers struct {
	t      *testing.T
	site   *site
	beam   *erltest.Beam
	config string
	hosts  [2]*host
	people []*person
}

// reconfigure writes the configuration, and has those that run take it.
func (l *leftovers) reconfigure(text string) {
	require.NoError(l.t, os.WriteFile(l.config, []byte(text), 0o600))
	for _, h := range l.hosts {
		if h != nil {
			h.Exit(l.t, 0, "config", "reload")
		}
	}
}

func (l *leftovers) start() {
	l.hosts = [2]*host{}
	l.reconfigure(quiet)
	for i := range l.hosts {
		l.hosts[i] = l.site.run(l.t, "--config", l.config)
		l.hosts[i].attached(l.t, l.beam)
	}
}

// words are the arguments of a command.
func (l *leftovers) words(host int, args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.NewReplacer("NODE", l.beam.Name, "KEY", fmt.Sprintf("fixture-%d", host), "FILE", filepath.Join(l.t.TempDir(), "s")).Replace(a)
	}
	return out
}

// begin asks what lasts, and waits until each question is under way on the node.
func (l *leftovers) begin(which func(*asking) bool, more ...string) {
	l.t.Helper()
	l.people = nil
	for host, questions := range lasting {
		l.reconfigure(configs[host])
		for _, q := range questions {
			if !which(&q) {
				continue
			}
			p := newPerson(l.t, l.hosts[host], q.stdin, append(l.words(host, q.args), more...)...)
			l.people = append(l.people, p)
			if len(more) == 0 {
				l.under(&q, p)
			}
		}
	}
}

// under waits until a question is under way.
func (l *leftovers) under(q *asking, p *person) {
	l.t.Helper()
	got := ""
	err := rig.Until(rig.Patience, func() (err error) {
		if got, err = l.beam.Eval(q.under); err == nil && got != "true" {
			err = fmt.Errorf("%s is %s", q.under, got)
		}
		return err
	})
	require.NoError(l.t, err, "%v is not under way; it said: %s", q.args, p.said())
}

func (l *leftovers) each(do func(*person)) {
	for _, p := range l.people {
		do(p)
	}
}

// await waits for the end of the commands, whatever they say.
func (l *leftovers) await() {
	l.t.Helper()
	l.each(func(p *person) {
		select {
		case <-p.done:
		case <-time.After(rig.Patience):
			l.t.Fatalf("%v does not end; it said: %s", p.cmd.Args, p.said())
		}
	})
}

// undo takes back what is there until its debughost goes.
func (l *leftovers) undo() {
	for host, questions := range lasting {
		for _, q := range questions {
			if q.undo != nil {
				l.hosts[host].Exit(l.t, 0, l.words(host, q.undo)...)
			}
		}
	}
}

func (l *leftovers) signal(s syscall.Signal) {
	for _, h := range l.hosts {
		require.NoError(l.t, h.Cmd.Process.Signal(s))
	}
}

// unchanged waits until the node is as it was, and frees the process that is busy: a
// question to it stays in its mailbox until then, as it would with any other asker.
func (l *leftovers) unchanged(how, mode string) {
	l.t.Helper()
	l.beam.MustEval(l.t, "fixture_busy ! free, gen_server:call(fixture_busy, any)")
	got := ""
	err := rig.Until(rig.Patience, func() (err error) {
		if got, err = l.beam.Eval("fingerprint:changes(" + mode + ")"); err == nil && got != "[]" {
			err = fmt.Errorf("changed, as {Kind, Gone, New}: %s", got)
		}
		return err
	})
	require.NoError(l.t, err, how)
	l.beam.MustEval(l.t, "gen_server:cast(fixture_busy, busy)")
}

// person is somebody who asks a question and waits for the answer.
type person struct {
	cmd   *exec.Cmd
	out   bytes.Buffer // once done is closed
	stdin io.WriteCloser
	done  chan struct{}
}

func newPerson(t testing.TB, h *host, stdin string, args ...string) *person {
	t.Helper()
	p := &person{cmd: exec.Command(filepath.Join(rig.Bin, "debughost"), append(args, "--data-dir", h.Dir)...), done: make(chan struct{})}
	p.cmd.Env = h.site.env()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.leave)
	_, err = io.WriteString(p.stdin, stdin)
	require.NoError(t, err)
	return p
}

// said is the end of what the command wrote.
func (p *person) said() string {
	select {
	case <-p.done:
		out := p.out.String()
		return out[max(0, len(out)-1000):]
	default:
		return "nothing yet"
	}
}

// leave is the end of a terminal.
func (p *person) leave() {
	_ = p.cmd.Process.Kill()
	<-p.done
}
