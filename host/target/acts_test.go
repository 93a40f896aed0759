package target_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/target"
)

func (r *rig) act(t testing.TB, b *erltest.Beam, a target.Act) (target.Done, error) {
	t.Helper()
	a.Node, a.Timeout = b.Name, 30*time.Second
	return r.Act(t.Context(), a)
}

// done is an act that must succeed.
func (r *rig) done(t testing.TB, b *erltest.Beam, a target.Act) target.Done {
	t.Helper()
	d, err := r.act(t, b, a)
	require.NoError(t, err)
	return d
}

// pidOf is the pid of a registered process.
func pidOf(t testing.TB, b *erltest.Beam, name string) string {
	return strings.Trim(b.MustEval(t, "pid_to_list(whereis("+name+"))"), `"`)
}

// bothWays runs a test with the helper and without.
func bothWays(t *testing.T, f func(t *testing.T, b *erltest.Beam, r *rig)) {
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		b := startOTP(t, otp)
		for _, never := range []bool{false, true} {
			r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
			f(t, b, r)
			r.stop()
			b.Await(t, agents, unloaded)
		}
	})
}

func TestSend(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, b *erltest.Beam, r *rig) {
		b.MustEval(t, `register(box, spawn(fun() -> receive stop -> ok end end))`)
		d := r.done(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: `{reload, [1, "x"], <0.0.0>}`})
		assert.Equal(t, target.Done{
			Kind: target.ActSend, Node: b.Name, Pid: pidOf(t, b, "box"), RegisteredName: "box", Message: `{reload,[1,"x"],<0.0.0>}`,
			MessageQueueLen: 1, MemoryAfter: d.MemoryAfter, Status: "waiting",
		}, d)
		d = r.done(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: `{:reload, "x"}`})
		assert.Equal(t, `{reload,<<"x">>}`, d.Message)
		d = r.done(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: `"x"`, Elixir: true})
		assert.Equal(t, `"x"`, d.Message)
		assert.Equal(t, `{messages,[{reload,[1,"x"],<0.0.0>},{reload,<<"x">>},<<"x">>]}`, b.MustEval(t, "process_info(whereis(box), messages)"))

		for term, want := range map[string]string{
			"{never_" + "heard, [of_" + "this_one]}": `the node has no atom "never_heard"`,
			"{oops":                                  "read term",
			"{:ok, <0.4294967295.0>}":                "read term",
			"{ok, <0.4294967295.0>}":                 "no process of this node can be",
		} {
			_, err := r.act(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: term})
			assert.ErrorIs(t, err, target.ErrBadQuery, term)
			assert.ErrorContains(t, err, want)
		}
		r.done(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: `#{forced_` + `atom_` + "x" + ` => [a|b]}`, Force: true})
		_, err := r.act(t, b, target.Act{Kind: target.ActSend, Process: "init", Term: "{stop, stop}"})
		assert.ErrorIs(t, err, target.ErrProtected)
		r.done(t, b, target.Act{Kind: target.ActSend, Process: "box", Term: "stop"})
		b.Await(t, "whereis(box)", "undefined")
		acted := r.bus.History(events.Filter{Types: []events.Type{events.ProcessActed}})
		require.Len(t, acted, 5)
		assert.Equal(t, "send", acted[0].Fields["act"])
		assert.Equal(t, "box", acted[0].Fields["registered_name"])
		assert.Equal(t, `sent {reload,[1,"x"],<0.0.0>}`, acted[0].Reason)
	})
}

func TestCollect(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, b *erltest.Beam, r *rig) {
		b.MustEval(t, `register(messy, spawn(fun() -> _ = lists:sum(lists:seq(1, 1000000)), receive stop -> ok end end))`)
		b.Await(t, "process_info(whereis(messy), status)", "{status,waiting}")
		d := r.done(t, b, target.Act{Kind: target.ActCollect, Process: "messy"})
		assert.Greater(t, d.MemoryBefore, uint64(10_000_000))
		assert.Less(t, d.MemoryAfter, uint64(100_000))
		b.MustEval(t, "messy ! stop")
		b.Await(t, "whereis(messy)", "undefined")
		_, err := r.act(t, b, target.Act{Kind: target.ActCollect, Process: d.Pid})
		assert.ErrorIs(t, err, target.ErrNoProcess)
		_, err = r.act(t, b, target.Act{Kind: "dance", Process: "init"})
		assert.ErrorIs(t, err, target.ErrBadQuery)
	})
}

// TestSuspend: what is suspended goes on when it is resumed, and by itself when
// debughost detaches, or is lost as by kill -9 or in the network.
func TestSuspend(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startOTP(t, otp)
		r := attach(t, nil, b)
		status := func(name, want string) {
			t.Helper()
			b.Await(t, "process_info(whereis("+name+"), status)", "{status,"+want+"}")
		}
		d := r.done(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})
		assert.Equal(t, "suspended", d.Status)
		status("machine", "suspended")
		_, err := r.act(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})
		assert.ErrorIs(t, err, target.ErrConflict)
		d = r.done(t, b, target.Act{Kind: target.ActResume, Process: "machine"})
		assert.Equal(t, "waiting", d.Status)
		status("machine", "waiting")
		_, err = r.act(t, b, target.Act{Kind: target.ActResume, Process: "machine"})
		assert.ErrorIs(t, err, target.ErrConflict)
		assert.ErrorContains(t, err, "it is not suspended, but waiting")

		b.MustEval(t, `register(theirs, spawn(fun() -> erlang:suspend_process(whereis(sleeper)), receive stop -> ok end end))`)
		status("sleeper", "suspended")
		_, err = r.act(t, b, target.Act{Kind: target.ActResume, Process: "sleeper"})
		assert.ErrorContains(t, err, "it was not this debughost that suspended it")
		b.MustEval(t, "theirs ! stop")

		for _, name := range []string{"init", "kernel_sup", "code_server", "net_kernel", pidOf(t, b, "hd([N || N <- registered(), lists:prefix(\"debughost_agent\", atom_to_list(N))])")} {
			_, err := r.act(t, b, target.Act{Kind: target.ActSuspend, Process: name})
			assert.ErrorIs(t, err, target.ErrProtected, name)
		}

		// The process that is suspended is killed; nothing of ours stays for it.
		before := b.MustEval(t, "length(processes())")
		b.MustEval(t, `register(victim, spawn(fun() -> receive stop -> ok end end))`)
		r.done(t, b, target.Act{Kind: target.ActSuspend, Process: "victim"})
		b.MustEval(t, "exit(whereis(victim), kill)")
		b.Await(t, "length(processes())", before)

		// A process that holds another is killed, and the process goes on.
		r.done(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})
		b.MustEval(t, `[exit(P, kill) || P <- processes(), {suspending, [_ | _]} <- [process_info(P, suspending)]]`)
		status("machine", "waiting")
		_, err = r.act(t, b, target.Act{Kind: target.ActResume, Process: "machine"})
		assert.ErrorIs(t, err, target.ErrConflict)
		r.done(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})

		// Lost, while another debughost keeps the helper loaded.
		other := attach(t, nil, b)
		other.state(t, b, "sup", "")
		r.node.Peer(b.Name).Close()
		status("machine", "waiting")
		r.await(t, b.Name, target.Attached)
		r.done(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})
		r.stop()
		status("machine", "waiting")
		other.stop()
		b.Await(t, agents, unloaded)
		assert.Equal(t, "[]", b.MustEval(t, `[P || P <- processes(), {suspending, [_ | _]} <- [process_info(P, suspending)]]`))

		never := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
		_, err = never.act(t, b, target.Act{Kind: target.ActSuspend, Process: "machine"})
		assert.ErrorContains(t, err, "helper module is not used")
	})
}

// TestSuspendTooLate has the caller give up while the process cannot be stopped.
func TestSuspendTooLate(t *testing.T) {
	t.Parallel()
	b := startOTP(t, "")
	r := attach(t, nil, b)
	r.state(t, b, "machine", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Act(ctx, target.Act{Kind: target.ActSuspend, Node: b.Name, Process: "machine"})
	require.Error(t, err)
	b.Await(t, "process_info(whereis(machine), status)", "{status,waiting}")
}

func TestFlag(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startOTP(t, otp)
		r := attach(t, nil, b)
		for _, c := range []struct{ flag, value, was, check, shows string }{
			{"priority", "high", "normal", "process_info(whereis(machine), priority)", "{priority,high}"},
			{"message_queue_data", ":off_heap", "on_heap", "process_info(whereis(machine), message_queue_data)", "{message_queue_data,off_heap}"},
			{"trap_exit", "true", "false", "process_info(whereis(machine), trap_exit)", "{trap_exit,true}"},
			{"fullsweep_after", "10", "65535", "process_info(whereis(machine), fullsweep_after)", "{fullsweep_after,10}"},
			{"save_calls", "50", "0", "is_list(element(2, process_info(whereis(machine), last_calls)))", "true"},
			{"save_calls", "0", "50", "process_info(whereis(machine), last_calls)", "{last_calls,false}"},
			{"max_heap_size", "1_000_000", "", "map_get(size, element(2, process_info(whereis(machine), max_heap_size)))", "1000000"},
			{"min_heap_size", "5000", "233", "element(2, process_info(whereis(machine), min_heap_size)) >= 5000", "true"},
		} {
			d := r.done(t, b, target.Act{Kind: target.ActFlag, Process: "machine", Flag: c.flag, Value: c.value})
			if c.was != "" {
				assert.Equal(t, c.was, d.Was, c.flag)
			}
			assert.Equal(t, c.shows, b.MustEval(t, c.check), c.flag)
			assert.Equal(t, "{locked,#{code => [1,2,3]}}", b.MustEval(t, "sys:get_state(machine)"), "its state is as before")
		}
		for _, c := range []struct {
			process, flag, value string
			want                 error
			text                 string
		}{
			{"machine", "colour", "red", target.ErrBadQuery, "no flag"},
			{"machine", "priority", "max", target.ErrBadQuery, "is one of low, normal, high"},
			{"machine", "fullsweep_after", "-1", target.ErrBadQuery, "is a number"},
			{"machine", "fullsweep_after", "x", target.ErrBadQuery, "is a number"},
			{"machine", "min_heap_size", "1000000000", target.ErrProtected, "may cost the node its memory"},
			{"machine", "max_heap_size", "1", target.ErrProtected, "would end it"},
			{"plain", "priority", "low", target.ErrNoState, "does not handle system messages"},
			{"kernel_sup", "priority", "low", target.ErrProtected, "kernel"},
			{"nobody", "priority", "low", target.ErrNoProcess, "no process has this name"},
		} {
			_, err := r.act(t, b, target.Act{Kind: target.ActFlag, Process: c.process, Flag: c.flag, Value: c.value})
			assert.ErrorIs(t, err, c.want, fmt.Sprint(c))
			assert.ErrorContains(t, err, c.text)
		}
		d := r.done(t, b, target.Act{Kind: target.ActFlag, Process: "plain", Flag: "save_calls", Value: "1"})
		assert.Equal(t, "0", d.Was)
		_, err := r.Act(t.Context(), target.Act{Kind: target.ActFlag, Node: b.Name, Process: "busy", Flag: "priority", Value: "low", Timeout: 500 * time.Millisecond})
		assert.ErrorIs(t, err, target.ErrTimeout)
		r.stop()
		b.Await(t, agents, unloaded)
		// What it was asked for and comes to now fails there, and does no harm.
		b.MustEval(t, "busy ! go")
		b.Await(t, "sys:get_state(busy)", "busy")
	})
}

func TestChild(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, b *erltest.Beam, r *rig) {
		b.MustEval(t, `{ok, _} = supervisor:start_child(sup, #{id => {odd, "id"}, start => {gen_server, start_link, [otps, sleeper, []]}}), ok`)
		kid := pidOf(t, b, "kid")
		d := r.done(t, b, target.Act{Kind: target.ActTerminateChild, Process: "sup", Child: "kid"})
		assert.Equal(t, "kid", d.Child)
		assert.Equal(t, kid, d.ChildPid)
		assert.Equal(t, "undefined", b.MustEval(t, "whereis(kid)"))
		_, err := r.act(t, b, target.Act{Kind: target.ActTerminateChild, Process: "sup", Child: "kid"})
		assert.ErrorIs(t, err, target.ErrConflict)
		d = r.done(t, b, target.Act{Kind: target.ActRestartChild, Process: "sup", Child: "kid"})
		assert.Empty(t, d.ChildPid)
		assert.Equal(t, pidOf(t, b, "kid"), d.NewPid)
		d = r.done(t, b, target.Act{Kind: target.ActRestartChild, Process: "sup", Child: d.NewPid})
		assert.NotEqual(t, d.ChildPid, d.NewPid)
		assert.Equal(t, pidOf(t, b, "kid"), d.NewPid)
		d = r.done(t, b, target.Act{Kind: target.ActRestartChild, Process: "sup", Child: `{:odd, ~c"id"}`})
		assert.Equal(t, `{odd,"id"}`, d.Child)
		d = r.done(t, b, target.Act{Kind: target.ActTerminateChild, Process: "sup", Child: `{odd,"id"}`})
		assert.NotEmpty(t, d.ChildPid)
		b.MustEval(t, `ok = supervisor:delete_child(sup, {odd, "id"})`)

		b.MustEval(t, `application:set_env(kernel, fails, false), {ok, _} = supervisor:start_child(sup, #{id => fails, start => {otps, fails, []}}), ok`)
		b.MustEval(t, `application:set_env(kernel, fails, true)`)
		_, err = r.act(t, b, target.Act{Kind: target.ActRestartChild, Process: "sup", Child: "fails"})
		assert.ErrorContains(t, err, "child fails does not start: oh_no")
		b.MustEval(t, `ok = supervisor:delete_child(sup, fails)`)
		b.MustEval(t, `{ok, _} = supervisor:start_child(sup, #{id => slow, shutdown => 60000, start => {otps, slow, []}}), ok`)
		_, err = r.Act(t.Context(), target.Act{Kind: target.ActTerminateChild, Node: b.Name, Process: "sup", Child: "slow", Timeout: 500 * time.Millisecond})
		assert.ErrorIs(t, err, target.ErrTimeout)
		b.MustEval(t, "exit(whereis(slow), kill)")
		r.await(t, b.Name, target.Attached)
		b.Await(t, `lists:keyfind(slow, 1, supervisor:which_children(sup))`, "{slow,undefined,worker,[otps]}")
		b.MustEval(t, `ok = supervisor:delete_child(sup, slow)`)

		b.MustEval(t, `{ok, _} = supervisor:start_child(sup, #{id => brief, restart => temporary, start => {gen_server, start_link, [{local, brief}, otps, sleeper, []]}}), ok`)
		for _, c := range []struct {
			kind           target.ActKind
			process, child string
			want           error
			text           string
		}{
			{target.ActRestartChild, "sup", "brief", target.ErrBadQuery, "temporary"},
			{target.ActTerminateChild, "sup", "nobody", target.ErrNoProcess, "no child"},
			{target.ActTerminateChild, "machine", "kid", target.ErrBadQuery, "not a supervisor"},
			{target.ActTerminateChild, "plain", "kid", target.ErrBadQuery, "not a supervisor"},
			{target.ActTerminateChild, "kernel_sup", "code_server", target.ErrProtected, "kernel_sup"},
			{target.ActRestartChild, "kernel_sup", "code_server", target.ErrProtected, "kernel_sup"},
		} {
			_, err := r.act(t, b, target.Act{Kind: c.kind, Process: c.process, Child: c.child})
			assert.ErrorIs(t, err, c.want, fmt.Sprint(c))
			assert.ErrorContains(t, err, c.text)
		}
		r.done(t, b, target.Act{Kind: target.ActTerminateChild, Process: "sup", Child: "brief"})
	})
}

// TestChildOfDynamic has supervisors whose children have no ids, of Erlang and
// of Elixir.
// A child that ends again and again can be terminated, also when the run that its
// supervisor has told of is over by then.
func TestChildThatLoops(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, nil, b)
	b.MustEval(t, `Dead = spawn(fun() -> ok end),
		register(looping, spawn(fun() ->
			put('$initial_call', {supervisor, looping, 1}),
			(fun Loop() ->
				receive
					{'$gen_call', From, Ask} ->
						gen_server:reply(From, case Ask of
							count_children -> [{specs, 1}, {active, 1}, {supervisors, 0}, {workers, 1}];
							which_children -> [{kid, Dead, worker, [kid]}];
							{terminate_child, kid} -> ok
						end),
						Loop();
					stop -> ok
				end
			end)()
		end))`)
	t.Cleanup(func() { b.MustEval(t, "looping ! stop") })
	d := r.done(t, b, target.Act{Kind: target.ActTerminateChild, Process: "looping", Child: "kid"})
	require.Equal(t, "kid", d.Child)
}

func TestChildOfDynamic(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{OTP: "27", Elixir: true})
	_, err := b.EvalElixir(`
		defmodule Pool do
			def init(_), do: {:ok, {%{strategy: :simple_one_for_one}, [%{id: :w, start: {Agent, :start_link, []}}]}}
		end
		spawn(fn ->
			{:ok, d} = DynamicSupervisor.start_link(strategy: :one_for_one, name: Workers)
			{:ok, p} = :supervisor.start_link({:local, :pool}, Pool, nil)
			for n <- [:a, :b], do: {:ok, _} = DynamicSupervisor.start_child(d, {Agent, fn -> Process.register(self(), n); n end})
			for n <- [:c, :d], do: {:ok, _} = :supervisor.start_child(p, [fn -> Process.register(self(), n); n end])
			Process.register(self(), :owner)
			Process.sleep(:infinity)
		end)
		:ok`)
	require.NoError(t, err)
	b.Await(t, "is_pid(whereis(owner))", "true")
	r := attach(t, nil, b)
	for sup, children := range map[string][]string{"Workers": {"a", "b"}, "pool": {"c", "d"}} {
		before := pidOf(t, b, children[0])
		_, err := r.act(t, b, target.Act{Kind: target.ActRestartChild, Process: sup, Child: children[0]})
		require.ErrorIs(t, err, target.ErrBadQuery, sup)
		require.ErrorContains(t, err, "forgets a child")
		require.Equal(t, before, pidOf(t, b, children[0]), "nothing was done")
		_, err = r.act(t, b, target.Act{Kind: target.ActTerminateChild, Process: sup, Child: "w"})
		require.Error(t, err)
		for _, c := range children {
			d := r.done(t, b, target.Act{Kind: target.ActTerminateChild, Process: sup, Child: c})
			require.Equal(t, d.Child, d.ChildPid)
			require.Equal(t, "undefined", b.MustEval(t, "whereis("+c+")"))
		}
	}
	require.Equal(t, "2", b.MustEval(t, `length([N || N <- ['Elixir.Workers', pool], is_pid(whereis(N))])`))
}
