package target_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// watched runs on the target: its own work is a ping loop of a millisecond, and
// what watches it from within is done once a second.
const watched = `
-module(watched).
-export([crowd/1, ping/0, pings/1, every/1, every/3, done/1, fold/0, recon/0, cli/0, close/1]).

crowd(N) -> [proc_lib:spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)], ok.

%% ping() -> Pid, whose pings(Pid) are the microseconds that each took: a sleep of
%% one millisecond, and a call and answer of another process.
ping() ->
    spawn(fun() -> Echo = spawn_link(fun Loop() -> receive {ping, P} -> P ! pong, Loop() end end), ping(Echo, []) end).
pings(Pid) ->
    Pid ! {stop, self()}, receive {Pid, Took} -> Took end.
ping(Echo, Took) ->
    T0 = erlang:monotonic_time(microsecond),
    receive {stop, P} -> unlink(Echo), exit(Echo, kill), P ! {self(), Took}
    after 1 ->
        Echo ! {ping, self()}, receive pong -> ok end,
        ping(Echo, [erlang:monotonic_time(microsecond) - T0 | Took])
    end.

%% every(What) -> Pid, which does What once a second until done(Pid), which tells
%% how often it did.
every(What) ->
    spawn(?MODULE, every, [What, erlang:monotonic_time(millisecond), 1]).
every(What, At, N) ->
    {P, M} = spawn_monitor(?MODULE, What, []),
    receive {'DOWN', M, _, P, normal} -> ok end,
    receive {done, From} -> From ! {done, self(), N}
    after max(0, At + 1000 - erlang:monotonic_time(millisecond)) -> every(What, erlang:monotonic_time(millisecond), N + 1) end.
done(Pid) -> Pid ! {done, self()}, receive {done, Pid, N} -> N end.

%% A fold over process_info that keeps nothing, with the seven columns of a row.
fold() ->
    Items = [registered_name, memory, reductions, message_queue_len, current_function, initial_call, status],
    lists:foldl(fun(P, A) -> process_info(P, Items), A end, ok, processes()).

recon() -> recon:proc_count(memory, 20), recon:node_stats_list(1, 0), recon_alloc:memory(used).

%% cli() -> Screen: observer_cli's first page, anew each second, at a terminal
%% that nobody types at, until close(Screen), which tells how often it was drawn.
cli() ->
    Screen = spawn(fun() -> screen(0) end),
    spawn(fun() -> group_leader(Screen, self()), observer_cli:start(1000) end),
    Screen.
close(Screen) ->
    [exit(P, kill) || P <- processes(), process_info(P, group_leader) =:= {group_leader, Screen}],
    Screen ! {drawn, self()}, receive {Screen, N} -> N end.
screen(N) ->
    receive
        {io_request, From, Ref, Get} when Get =:= get_geometry; element(1, Get) =:= get_geometry -> From ! {io_reply, Ref, {error, enotsup}}, screen(N);
        {io_request, _, _, Get} when element(1, Get) =:= get_line -> screen(N);
        {io_request, From, Ref, Put} -> From ! {io_reply, Ref, ok}, screen(case erlang:external_size(Put) > 1000 of true -> N + 1; false -> N end);
        {drawn, From} -> From ! {self(), N}
    end.
`

// tools are the code paths of recon and observer_cli, which Debian's RabbitMQ
// brings; DEBUGHOST_TOOLS names another directory that has them.
func tools() []string {
	dir := os.Getenv("DEBUGHOST_TOOLS")
	if dir == "" {
		dir = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"
	}
	var args []string
	for _, app := range []string{"recon", "observer_cli"} {
		if found, _ := filepath.Glob(filepath.Join(dir, app+"-*", "ebin")); len(found) > 0 {
			args = append(args, "-pa", found[0])
		}
	}
	return args
}

// processorTime is what the threads of a process have had of the processors.
func processorTime(t testing.TB, osPid int) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", osPid))
	require.NoError(t, err)
	var sum time.Duration
	for _, f := range files {
		line, err := os.ReadFile(f)
		require.NoError(t, err)
		ns, err := strconv.ParseInt(strings.Fields(string(line))[0], 10, 64)
		require.NoError(t, err)
		sum += time.Duration(ns)
	}
	require.NotZero(t, sum)
	return sum
}

// watching is one way to watch a node once a second. What start returns ends it
// and tells how often it has looked.
type watching struct {
	name  string
	start func() (stop func() int)
}

// observed is what the node paid meanwhile.
type observed struct {
	busy, time time.Duration // of one processor, of the clock
	looks      int
	pings      []float64 // microseconds
}

func (o *observed) add(t testing.TB, node *erltest.Beam, w watching, period time.Duration) {
	t.Helper()
	pinger := node.MustEval(t, "pid_to_list(watched:ping())")
	start, before := time.Now(), processorTime(t, node.OSPid())
	stop := w.start()
	<-time.After(period)
	o.looks += stop()
	o.busy += processorTime(t, node.OSPid()) - before
	o.time += time.Since(start)
	out := node.MustEval(t, `lists:flatten(io_lib:format("~w", [watched:pings(list_to_pid(`+pinger+`))]))`)
	for took := range strings.SplitSeq(strings.Trim(out, `"[]`), ",") {
		us, err := strconv.ParseFloat(took, 64)
		require.NoError(t, err)
		o.pings = append(o.pings, us)
	}
}

// aLook is the processor time that one look took, in milliseconds, beyond what
// the node needs while nobody watches it.
func (o *observed) aLook(nobody *observed) float64 {
	idle := float64(nobody.busy) / float64(nobody.time) * float64(o.time)
	return (float64(o.busy) - idle) / 1e6 / float64(max(o.looks, 1))
}

func number(b *testing.B, s string) int {
	n, err := strconv.Atoi(s)
	require.NoError(b, err, s)
	return n
}

// quantile of values, which are sorted.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[int(math.Ceil(q*float64(len(values))))-1]
}

// secondly does ask once a second until it is stopped.
func secondly(ask func()) (stop func() int) {
	quit, ended := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			ask()
			select {
			case <-tick.C:
			case <-quit:
				ended <- n
				return
			}
		}
	}()
	return func() int { close(quit); return <-ended }
}

// BenchmarkWatch tells what a node of 100 k processes pays for being watched once
// a second: processor time of its OS process for each look (10 ms are one percent
// of a scheduler), and the 99th percentile of its own ping loop. Its schedulers do
// not spin while they wait, since that is no work. Ours is the ranking by memory,
// the system and the tree, with and without the processes that are not in it;
// beside it are a bare fold over process_info, and what others have for the same;
// and spin, which leaves the node alone and keeps a processor of the machine busy
// for about as long as the fold does: what the ping loop owes to the machine.
// All take turns, DEBUGHOST_BENCH_PERIOD each (default 5s).
func BenchmarkWatch(b *testing.B) {
	benchmarkWatch(b, "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")
}

// BenchmarkWatchUsual is the same on a node with the flags that it has when nobody
// gives any: what the ping loop meets in most nodes.
func BenchmarkWatchUsual(b *testing.B) { benchmarkWatch(b) }

func benchmarkWatch(b *testing.B, flags ...string) {
	period, err := time.ParseDuration(os.Getenv("DEBUGHOST_BENCH_PERIOD"))
	if err != nil {
		period = 5 * time.Second
	}
	for _, otp := range erltest.Releases() {
		b.Run("otp"+otp, func(b *testing.B) {
			ways := waysToWatch(b, otp, flags)
			results := make([]observed, len(ways.all))
			for b.Loop() {
				for i, w := range ways.all {
					results[i].add(b, ways.node, w, period)
				}
			}
			for i, w := range ways.all {
				if i > 0 && len(flags) > 0 {
					b.ReportMetric(results[i].aLook(&results[0]), w.name+"-ms")
				}
				b.ReportMetric(quantile(results[i].pings, 0.95), w.name+"-p95-µs")
				b.ReportMetric(quantile(results[i].pings, 0.99), w.name+"-p99-µs")
			}
		})
	}
}

type waysOf struct {
	node *erltest.Beam
	all  []watching
}

func waysToWatch(b *testing.B, otp string, flags []string) waysOf {
	args := slices.Concat([]string{"+P", "1000000"}, flags, tools())
	node := erltest.Start(b, erltest.Options{OTP: otp, Args: args})
	for module, source := range map[string]string{"watched": watched, "trees": trees, "meter": meter} {
		node.LoadModule(b, module, source)
	}
	node.MustEval(b, "ok = trees:start(), trees:many(1000), watched:crowd(98000)")
	within := func(name string) watching {
		return watching{name, func() func() int {
			pid := node.MustEval(b, "pid_to_list(watched:every("+name+"))")
			return func() int { return number(b, node.MustEval(b, "watched:done(list_to_pid("+pid+"))")) }
		}}
	}
	r := attach(b, nil, node)
	ask := func(supervised bool) func() (stop func() int) {
		return func() func() int {
			return secondly(func() {
				require.Len(b, r.ps(b, target.ProcessQuery{Sort: target.ByMemory, Limit: 20}).all, 20)
				_, failed := r.systems(b, target.SystemQuery{Ask: target.Ask{Timeout: time.Minute}})
				require.Empty(b, failed)
				_, err := r.Tree(b.Context(), target.TreeQuery{Node: node.Name, Supervised: supervised, Timeout: time.Minute})
				require.NoError(b, err)
			})
		}
	}
	other := erltest.Start(b, erltest.Options{OTP: otp, Cookie: node.Cookie, EPMD: node.EPMD, Hidden: true})
	other.LoadModule(b, "meter", meter)
	require.Equal(b, "true", other.MustEval(b, fmt.Sprintf("net_kernel:connect_node('%s')", node.Name)))
	observer := func() func() int {
		return secondly(func() {
			other.MustEval(b, fmt.Sprintf("meter:observer('%s'), erpc:call('%s', observer_backend, sys_info, [])", node.Name, node.Name))
		})
	}
	took := time.Now()
	node.MustEval(b, "watched:fold()")
	fold := time.Since(took)
	spin := func() func() int {
		return secondly(func() {
			for start := time.Now(); time.Since(start) < fold; {
			}
		})
	}
	all := []watching{
		{"none", func() func() int { return func() int { return 0 } }}, {"spin", spin}, within("fold"), {"ours", ask(false)}, {"ours-supervised", ask(true)}, {"observer_backend", observer},
	}
	if node.MustEval(b, "[code:ensure_loaded(M) || M <- [recon, recon_lib, recon_alloc]]") == "[{module,recon},{module,recon_lib},{module,recon_alloc}]" {
		all = append(all, within("recon"))
		if node.MustEval(b, "code:ensure_loaded(observer_cli)") == "{module,observer_cli}" {
			all = append(all, watching{"observer_cli", func() func() int {
				screen := node.MustEval(b, "pid_to_list(watched:cli())")
				return func() int { return number(b, node.MustEval(b, "watched:close(list_to_pid("+screen+"))")) }
			}})
		}
	}
	return waysOf{node, all}
}
