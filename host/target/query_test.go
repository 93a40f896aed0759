package target_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// crowd starts processes whose ranks are known: big(N) holds N words, queue(N)
// has N messages, and busy spins.
const crowd = `
-module(crowd).
-export([start/0, big/1, queue/0, busy/1]).
start() ->
    [register(list_to_atom("crowd_big_" ++ integer_to_list(I)), spawn(?MODULE, big, [50000 bsl I])) || I <- lists:seq(1, 5)],
    [begin P = spawn(?MODULE, queue, []), register(list_to_atom("crowd_queue_" ++ integer_to_list(I)), P),
           [P ! {message, K} || K <- lists:seq(1, I * 10)] end || I <- lists:seq(1, 5)],
    register(crowd_busy, spawn(?MODULE, busy, [0])),
    [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 2000)],
    ok.
big(N) -> L = lists:seq(1, N), receive stop -> L end.
queue() -> receive stop -> ok end.
busy(N) when N rem 1000 =:= 0 -> receive after 1 -> busy(N + 1) end;
busy(N) -> busy(N + 1).
`

func startCrowd(t testing.TB, otp string) *erltest.Beam {
	t.Helper()
	b := erltest.Borrow(t, otp)
	b.LoadModule(t, "crowd", crowd)
	b.MustEval(t, "crowd:start()")
	b.Await(t, "process_info(whereis(crowd_big_5), status)", "{status,waiting}")
	return b
}

func names(rows []target.Process) []string {
	var out []string
	for _, p := range rows {
		out = append(out, cmp.Or(p.RegisteredName, p.CurrentFunction))
	}
	return out
}

// eachMode runs a test with the helper module and with plain calls, on each
// release: the answers must be the same.
func eachMode(t *testing.T, f func(t *testing.T, b *erltest.Beam, r *rig)) {
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startCrowd(t, otp)
		for _, never := range []bool{false, true} {
			t.Run(fmt.Sprintf("never=%v", never), func(t *testing.T) {
				r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
				f(t, b, r)
				want := "loaded"
				if never {
					want = "never"
				}
				require.Equal(t, want, r.Targets()[0].Agent)
				r.stop()
				b.Await(t, agents, unloaded)
			})
		}
	})
}

func TestRanking(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, b *erltest.Beam, r *rig) {
		var top *rows
		require.Eventually(t, func() bool { // who was just asked for something may still be runnable
			top = r.ps(t, target.ProcessQuery{Sort: target.ByMemory, Limit: 5, Filter: "crowd_BIG"})
			return !slices.ContainsFunc(top.all, func(p target.Process) bool { return p.Status != "waiting" })
		}, 30*time.Second, time.Millisecond)
		require.Empty(t, top.failed)
		require.Equal(t, []string{"crowd_big_5", "crowd_big_4", "crowd_big_3", "crowd_big_2", "crowd_big_1"}, names(top.all))
		for _, p := range top.all {
			require.Equal(t, b.Name, p.Node)
			require.Regexp(t, `^<0\.\d+\.\d+>$`, p.Pid)
			require.Greater(t, p.Memory, uint64(700_000))
			require.Equal(t, "crowd:big/1", p.CurrentFunction)
		}

		queue := r.ps(t, target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 2, Filter: "crowd"})
		require.Equal(t, []string{"crowd_queue_5", "crowd_queue_4"}, names(queue.all))
		require.Equal(t, uint64(50), queue.all[0].MessageQueueLen)

		page := r.ps(t, target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 2, Offset: 1, Filter: "crowd"})
		require.Equal(t, []string{"crowd_queue_4", "crowd_queue_3"}, names(page.all))

		var busy *rows
		require.Eventually(t, func() bool { // on a busy machine nobody may have run within the window
			busy = r.ps(t, target.ProcessQuery{Sort: target.ByReductions, Window: 100 * time.Millisecond, Limit: 1, Filter: "crowd"})
			return len(busy.all) == 1 && busy.all[0].Rate > 1000
		}, 30*time.Second, time.Millisecond)
		require.Equal(t, []string{"crowd_busy"}, names(busy.all))

		fun := r.ps(t, target.ProcessQuery{Limit: 50, Function: "crowd:queue/0"})
		require.Len(t, fun.all, 5)

		one := r.ps(t, target.ProcessQuery{Limit: 5, Filter: "#PID" + top.all[0].Pid})
		require.Equal(t, []string{"crowd_big_5"}, names(one.all))

		none := r.ps(t, target.ProcessQuery{Limit: 5, Filter: "no such thing"})
		require.Empty(t, none.all)
		require.Empty(t, none.failed)

		kernel := r.ps(t, target.ProcessQuery{Limit: 100, Application: "kernel"})
		require.Contains(t, names(kernel.all), "code_server")
		require.NotContains(t, names(kernel.all), "crowd_busy")
		require.Empty(t, r.ps(t, target.ProcessQuery{Limit: 100, Application: "nope"}).all)
	})
}

func TestWholeTable(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, b *erltest.Beam, r *rig) {
		all := r.ps(t, target.ProcessQuery{Limit: 0})
		require.Empty(t, all.failed)
		require.Greater(t, len(all.all), 2000)
		seen := map[string]bool{}
		for _, p := range all.all {
			require.False(t, seen[p.Pid], "%s comes twice", p.Pid)
			seen[p.Pid] = true
		}
		require.Contains(t, names(all.all), "crowd_big_1")
		require.Contains(t, names(all.all), "init")

		ranked := target.Rank(all.all, target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 1})
		require.Equal(t, []string{"crowd_queue_5"}, names(ranked))

		some := r.ps(t, target.ProcessQuery{Limit: 0, Filter: "crowd_queue"})
		require.Len(t, some.all, 5)
	})
}

func TestInitialCallBehindProcLib(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		all := r.ps(t, target.ProcessQuery{Limit: 1, Filter: "kernel_sup"})
		require.Equal(t, "supervisor:kernel/1", all.all[0].InitialCall)
		require.Equal(t, "kernel_sup", all.all[0].RegisteredName)
	})
}

func TestLabel(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "27")
	b.MustEval(t, `register(labelled, spawn(fun() -> proc_lib:set_label({cart, 4711}), receive stop -> ok end end))`)
	b.Await(t, "proc_lib:get_label(whereis(labelled))", "{cart,4711}")
	r := attach(t, nil, b)
	out := r.ps(t, target.ProcessQuery{Limit: 5, Filter: "cart,4711"})
	require.Equal(t, []string{"labelled"}, names(out.all))
	detail, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "labelled"})
	require.NoError(t, err)
	require.Equal(t, "{cart,4711}", detail.Label)
}

func TestManyTargetsMerge(t *testing.T) {
	t.Parallel()
	one, two := startCrowd(t, "25"), startCrowd(t, "29")
	r := attach(t, nil, one, two)
	out := r.ps(t, target.ProcessQuery{Sort: target.ByMessageQueueLen, Limit: 3})
	require.Equal(t, []string{"crowd_queue_5", "crowd_queue_5", "crowd_queue_4"}, names(out.all))
	nodes := []string{out.all[0].Node, out.all[1].Node}
	slices.Sort(nodes)
	want := []string{one.Name, two.Name}
	slices.Sort(want)
	require.Equal(t, want, nodes)

	some := r.ps(t, target.ProcessQuery{Nodes: []string{one.Name, "nobody@nowhere"}, Limit: 3})
	require.Len(t, some.all, 3)
	require.Len(t, some.failed, 1)
	require.ErrorIs(t, some.failed[0].Err, target.ErrNoTarget)
	require.Equal(t, "nobody@nowhere", some.failed[0].Node)
}

// TestManyAskAtOnce has 50 clients ask the same, and others something else: all
// are answered, by few walks.
func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	b := startCrowd(t, "27")
	r := attach(t, nil, b)
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
	var wg sync.WaitGroup
	var answered atomic.Int32
	for i := range 50 {
		wg.Go(func() {
			var out rows
			q := target.ProcessQuery{Limit: 3, Timeout: 20 * time.Second}
			if i%5 == 0 {
				q.Limit += i
			}
			if err := r.Processes(t.Context(), q, &out); err == nil && len(out.all) == q.Limit {
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 50, answered.Load())

	// Who gives up frees the node.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out rows
	require.NoError(t, r.Processes(ctx, target.ProcessQuery{Limit: 3, Window: time.Hour}, &out))
	require.ErrorIs(t, out.failed[0].Err, target.ErrTimeout)
	b.Await(t, `[P || P <- processes(), {_, {M, _, _}} <- [process_info(P, current_function)], lists:prefix("debughost", atom_to_list(M)), process_info(P, registered_name) =:= []]`, "[]")
}

// TestElixirFunction writes a function as Elixir does.
func TestElixirFunction(t *testing.T) {
	t.Parallel()
	b := erltest.Start(t, erltest.Options{OTP: "27", Elixir: true})
	_, err := b.EvalElixir("spawn(fn -> Process.sleep(:infinity) end); spawn(Process, :sleep, [:infinity])")
	require.NoError(t, err)
	r := attach(t, nil, b)
	require.NotEmpty(t, r.ps(t, target.ProcessQuery{Limit: 9, Function: "Process.sleep"}).all)
	require.NotEmpty(t, r.ps(t, target.ProcessQuery{Limit: 9, Filter: "Process.sleep/1"}).all)
}

// TestOddNames finds processes by the names that a ranking shows, whatever they
// are, and makes no atoms of those that do not exist.
func TestOddNames(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, nil, b)
	for _, name := range []string{"a.b", "odd name", `quo"te`, "sing\\'le", "@at", "Elixir.foo", "Cap", "ünï"} {
		b.MustEval(t, `register('`+name+`', spawn(fun() -> receive stop -> ok end end))`)
		plain := strings.ReplaceAll(name, "\\", "")
		d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: plain})
		require.NoError(t, err, name)
		require.Equal(t, plain, d.RegisteredName)
	}
	before := b.MustEval(t, "erlang:system_info(atom_count)")
	for i := range 20 {
		_, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: fmt.Sprintf("no_such_name_%d", i)})
		require.ErrorIs(t, err, target.ErrNoProcess)
	}
	require.Equal(t, before, b.MustEval(t, "erlang:system_info(atom_count)"))
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(*target.Config) {})
	for _, q := range []target.ProcessQuery{
		{Sort: "heap"},
		{Limit: -1},
		{Limit: 0, Offset: 3},
		{Limit: 0, Window: time.Second},
		{Limit: 1 << 30},
		{Limit: 1, Window: 2 * time.Hour},
		{Limit: 1, Window: time.Microsecond},
	} {
		require.ErrorIs(t, r.Processes(t.Context(), q, &rows{}), target.ErrBadQuery, "%+v", q)
	}
}

// stopSink fails at the first row, as a client does that has gone away.
type stopSink struct{ rows }

var errStop = errors.New("the client has gone")

func (s *stopSink) Rows([]target.Process) error { return errStop }

func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	b := startCrowd(t, "27")
	r := attach(t, nil, b)
	require.ErrorIs(t, r.Processes(t.Context(), target.ProcessQuery{Limit: 0}, &stopSink{}), errStop)
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
	require.Zero(t, r.node.Peer(b.Name).Pending())
}

// TestAgentIsTakenAway has the keeper killed between two questions, as another
// debughost that leaves at that moment, or an operator, would do.
func TestAgentIsTakenAway(t *testing.T) {
	t.Parallel()
	b := startCrowd(t, "27")
	r := attach(t, nil, b)
	for range 3 {
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		b.MustEval(t, `[begin exit(whereis(M), kill), code:purge(M), code:delete(M), code:purge(M) end
			|| {M, _} <- code:all_loaded(), string:prefix(atom_to_list(M), "debughost") =/= nomatch]`)
		b.Await(t, agents, unloaded)
	}
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 0, Filter: "crowd_big"}).all, 5)
}

// TestKeeperIsKilled has nothing asked after somebody killed the keeper: the
// module leaves with us all the same.
func TestKeeperIsKilled(t *testing.T) {
	t.Parallel()
	b := startCrowd(t, "27")
	r := attach(t, nil, b)
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
	keeper := strings.Trim(b.MustEval(t, `[N || N <- registered(), lists:prefix("debughost", atom_to_list(N))]`), "[]")
	_, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: keeper})
	require.ErrorIs(t, err, target.ErrProtected)
	b.MustEval(t, "exit(whereis("+keeper+"), kill)")
	r.stop()
	b.Await(t, agents, unloaded)
}

// TestHostVanishes closes our end without a word, as kill -9 and a lost network
// do once the node has noticed.
func TestHostVanishes(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startCrowd(t, otp)
		r := attach(t, nil, b)
		require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
		require.Equal(t, loaded, loadedAgents(t, b))
		r.SetFound("test", nil)
		r.node.Peer(b.Name).Close()
		b.Await(t, agents, unloaded)
	})
}

// TestForbiddenLoading has a node on which the helper module cannot be used:
// something else has its name. Plain calls answer instead, and it says so.
func TestForbiddenLoading(t *testing.T) {
	t.Parallel()
	b := startCrowd(t, "27")
	r := attach(t, nil, b)
	require.Len(t, r.ps(t, target.ProcessQuery{Limit: 3}).all, 3)
	name := strings.Trim(b.MustEval(t, `[M || {M, _} <- code:all_loaded(), lists:prefix("debughost", atom_to_list(M))]`), "[]")
	r.stop()
	b.LoadModule(t, name, "-module("+name+").\n-export([other/0]).\nother() -> ok.\n")
	r = attach(t, nil, b)
	top := r.ps(t, target.ProcessQuery{Limit: 1, Filter: "crowd_big"})
	require.Equal(t, []string{"crowd_big_5"}, names(top.all))
	require.Contains(t, r.Targets()[0].Agent, "refused: ")
	d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "crowd_queue_1", Messages: 2})
	require.NoError(t, err)
	require.Equal(t, "{message,1}", d.Messages[0].Value)
}

func TestAmbiguousName(t *testing.T) {
	t.Parallel()
	one := erltest.Borrow(t, "")
	alive, _, _ := strings.Cut(one.Name, "@")
	two := erltest.Start(t, erltest.Options{Name: alive + "@127.0.0.1", Long: true, Cookie: one.Cookie, EPMD: erltest.StartEPMD(t)})
	r := attach(t, nil, one, two)
	out := r.ps(t, target.ProcessQuery{Nodes: []string{alive}, Limit: 3})
	require.Len(t, out.failed, 1)
	require.ErrorIs(t, out.failed[0].Err, target.ErrAmbiguous)
	require.Len(t, r.ps(t, target.ProcessQuery{Nodes: []string{two.Name, two.Name}, Limit: 3}).all, 3)
}

// TestLargeProcess is not copied for the sake of being looked at.
func TestLargeProcess(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	b.MustEval(t, `register(large, spawn(fun() -> put(list, lists:seq(1, 5000000)), receive never -> ok end end))`)
	b.Await(t, "process_info(whereis(large), status)", "{status,waiting}")
	require.Equal(t, "true", b.MustEval(t, "element(2, process_info(whereis(large), memory)) > 67108864"))
	b.MustEval(t, "large ! hello")
	r := attach(t, nil, b)
	d, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "large", Messages: 1})
	require.NoError(t, err)
	require.Empty(t, d.Dictionary)
	require.Empty(t, d.Messages)
	missing := strings.Join(d.Missing, "\n")
	require.Contains(t, missing, "dictionary: not read")
	require.Contains(t, missing, "messages: not read")
	d, err = r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: "large", Messages: 1, Force: true, Timeout: 30 * time.Second})
	require.NoError(t, err)
	require.Len(t, d.Messages, 1, "%v", d.Missing)
	require.Equal(t, "hello", d.Messages[0].Value)
	require.Len(t, d.Dictionary, 1, "%v", d.Missing)
	require.Equal(t, "list", d.Dictionary[0].Key)
	require.True(t, d.Dictionary[0].Truncated)
}
