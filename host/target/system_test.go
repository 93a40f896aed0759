package target_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// systems asks all targets of the rig.
func (r *rig) systems(t testing.TB, q target.SystemQuery) (map[string]target.System, []target.NodeError) {
	all, failed := map[string]target.System{}, []target.NodeError{}
	r.System(t.Context(), q, target.Answers[target.System]{
		Answer: func(node string, s target.System) { all[node] = s },
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return all, failed
}

func TestSystem(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		for _, otp := range erltest.Releases() {
			name := otp
			if never {
				name += " without the helper"
			}
			t.Run(name, func(t *testing.T) {
				b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: otp == "29"})
				r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
				all, failed := r.systems(t, target.SystemQuery{Window: 50 * time.Millisecond, Ask: target.Ask{Timeout: 30 * time.Second}})
				require.Empty(t, failed)
				s := all[b.Name]
				assert.Equal(t, otp, s.OTPRelease)
				assert.Equal(t, strconv.Itoa(b.OSPid()), s.OSPid)
				assert.NotEmpty(t, s.Version)
				assert.NotEmpty(t, s.Architecture)
				assert.NotZero(t, s.Schedulers)
				assert.NotEmpty(t, s.RunQueues)
				assert.NotZero(t, s.QueueLimit)
				limits := map[string]target.Limit{}
				for _, l := range s.Limits {
					limits[l.Name] = l
					assert.NotZero(t, l.Used, l)
					assert.Greater(t, l.Limit, l.Used, l)
					assert.Less(t, l.Share(), 0.5, l)
				}
				assert.Contains(t, limits, "atom")
				assert.Contains(t, limits, "ets")
				assert.Equal(t, "17 of 262144", target.Limit{Used: 17, Limit: 262144}.String())
				memory := map[string]uint64{}
				for _, m := range s.Memory {
					memory[m.Name] = m.Value
				}
				assert.Greater(t, memory["total"], memory["processes"])
				if never {
					assert.Zero(t, s.Window)
					return
				}
				if otp == "29" {
					assert.NotEmpty(t, s.ElixirVersion)
				} else {
					assert.Empty(t, s.ElixirVersion)
				}
				assert.NotZero(t, s.Uptime)
				assert.NotZero(t, s.Modules)
				if _, err := os.Stat("/proc/self/fd"); err == nil {
					assert.Contains(t, limits, "file_descriptor")
				}
				assert.GreaterOrEqual(t, s.Window, 50*time.Millisecond)
				assert.Len(t, s.Busy, int(s.SchedulersOnline))
				for _, share := range append(s.Busy, s.BusyTotal, s.DirtyCPU, s.DirtyIO) {
					assert.GreaterOrEqual(t, share, 0.0)
					assert.LessOrEqual(t, share, 1.0)
				}
				rates := map[string]float64{}
				for _, x := range s.Activity {
					rates[x.Name] = x.Value
				}
				assert.NotZero(t, rates["reductions"])
				assert.Contains(t, rates, "bytes_reclaimed")
				require.NotEmpty(t, s.Allocators)
				for i, a := range s.Allocators {
					assert.GreaterOrEqual(t, a.Carriers, a.Blocks, a.Name)
					assert.True(t, i == 0 || s.Allocators[i-1].Carriers >= a.Carriers)
				}
				require.Len(t, s.Nodes, 1)
				assert.Equal(t, r.node.Name(), s.Nodes[0].Name)
				assert.True(t, s.Nodes[0].Hidden)
				assert.NotZero(t, s.Nodes[0].Input)
				assert.Equal(t, "undefined", b.MustEval(t, "statistics(scheduler_wall_time)"), "the flag is put back")

				all, _ = r.systems(t, target.SystemQuery{})
				assert.Empty(t, all[b.Name].Activity)
				r.stop()
				b.Await(t, agents, unloaded)
			})
		}
	}
}

// The flag of who has it on stays on, and is off after a question that was given
// up, or whose debughost has gone.
func TestSystemPutsTheFlagBack(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, nil, b)
		const off, on = "undefined", "true"
		flag := func() string {
			return b.MustEval(t, "case statistics(scheduler_wall_time) of undefined -> undefined; _ -> true end")
		}
		b.MustEval(t, "register(watcher, spawn(fun() -> erlang:system_flag(scheduler_wall_time, true), receive stop -> ok end end))")
		b.Await(t, "statistics(scheduler_wall_time) =/= undefined", on)
		_, failed := r.systems(t, target.SystemQuery{Window: 20 * time.Millisecond})
		require.Empty(t, failed)
		assert.Equal(t, on, flag(), "another has it on")
		b.MustEval(t, "watcher ! stop")
		b.Await(t, "statistics(scheduler_wall_time)", off)

		asked := make(chan []target.NodeError, 1)
		go func() {
			_, failed := r.systems(t, target.SystemQuery{Window: 50 * time.Second})
			asked <- failed
		}()
		b.Await(t, "statistics(scheduler_wall_time) =/= undefined", on)
		r.stop()
		b.Await(t, "statistics(scheduler_wall_time)", off)
		b.Await(t, agents, unloaded)
		assert.Len(t, <-asked, 1)
	})
}

func (r *rig) appsOf(t testing.TB, q target.AppsQuery) (map[string]map[string]target.App, []target.NodeError) {
	all, failed := map[string]map[string]target.App{}, []target.NodeError{}
	r.Apps(t.Context(), q, target.Answers[[]target.App]{
		Answer: func(node string, apps []target.App) {
			all[node] = map[string]target.App{}
			for _, a := range apps {
				all[node][a.Name] = a
			}
		},
		Failed: func(f target.NodeError) { failed = append(failed, f) },
	})
	return all, failed
}

func TestApps(t *testing.T) {
	t.Parallel()
	for _, never := range []bool{false, true} {
		for _, otp := range erltest.Releases() {
			t.Run(fmt.Sprint(otp, " never ", never), func(t *testing.T) {
				b := startTrees(t, otp)
				b.MustEval(t, "application:load(sasl)")
				r := attach(t, func(c *target.Config) { c.AgentNever = never }, b)
				all, failed := r.appsOf(t, target.AppsQuery{Ask: target.Ask{Nodes: []string{b.Name, "none"}, Timeout: 30 * time.Second}})
				require.Len(t, failed, 1)
				assert.ErrorIs(t, failed[0].Err, target.ErrNoTarget)
				app := all[b.Name]["trees"]
				if !never {
					assert.EqualValues(t, 15, app.Processes)
					assert.NotZero(t, app.Memory)
				}
				app.Processes, app.Memory = 0, 0
				assert.Equal(t, target.App{Name: "trees", Version: "1.2", Description: "Trees", State: "running", StartType: "transient"}, app)
				assert.Equal(t, "loaded", all[b.Name]["sasl"].State)
				assert.Equal(t, "permanent", all[b.Name]["kernel"].StartType)
				require.NoError(t, b.Freeze())
				_, failed = r.appsOf(t, target.AppsQuery{Ask: target.Ask{Timeout: 100 * time.Millisecond}})
				require.Len(t, failed, 1)
				assert.ErrorIs(t, failed[0].Err, target.ErrTimeout)
				require.NoError(t, b.Thaw())
			})
		}
	}
}

// What may be a secret does not leave the node.
func TestEnv(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := startTrees(t, otp)
		b.MustEval(t, `Set = fun(K, V) -> application:set_env(trees, K, V) end,
			Set('Elixir.Shop.Repo', [{username, "u"}, {"Password", <<"hush">>}, {pool, #{<<"api_token">> => hush, size => 3}}, {url, <<"ecto://u:hu@sh@db:5432/x">>}]),
			Set(urls, ["amqp://guest:hush@q/%2f", <<"https://hush@sentry.io/1">>, "https://example.org/a@b?x=1&auth_token=hush&y=2", <<"Host=db;Password=hush;Port=1">>]),
			Set(header, <<"Bearer hush">>),
			Set(pem, <<"-----BEGIN RSA PRIVATE KEY-----\nhush">>),
			Set(triple, {basic_password, "hush", <<"hush">>}),
			Set(cookie, hush), Set(secret_key_base, "hush"), Set(dsn, <<"hush">>), Set(no_password, undefined), Set(use_token, false),
			Set(work, fun() -> hush end), Set(worker, fun lists:map/2), Set(big, lists:seq(1000, 20000)), Set(bits, <<1:7>>), Set(n, 1 bsl 9000),
			Set(long, binary:copy(<<"x">>, 100000)), Set(improper, [a | b]), Set(text, "Grüße"), Set(nested, [[{deep, {x, [{passwd, hush}]}}]]),
			Set(pid, self()), Set(tuple, {1, 2, 3}), Set(empty, {}), Set(wide, maps:from_list([{I, I} || I <- lists:seq(1, 5000)]))`)
		r := attach(t, nil, b)
		q := target.EnvQuery{App: "trees", InspectQuery: target.InspectQuery{Node: b.Name, MaxBytes: 1 << 16, Timeout: 30 * time.Second}}
		env, err := r.Env(t.Context(), q)
		require.NoError(t, err)
		assert.Equal(t, len(env.Entries), env.Total)
		at := map[string]string{}
		for _, e := range env.Entries {
			at[e.Key] = e.Value
			assert.NotContains(t, e.Value, "hush")
			assert.NotContains(t, e.Value, "hu@sh")
		}
		const hidden = "'**redacted**'"
		for key, want := range map[string]string{
			"password": hidden, "limit": "3", "cookie": hidden, "secret_key_base": hidden, "dsn": hidden, "pem": hidden,
			"no_password": "undefined", "use_token": "false", "work": "'...'", "worker": "fun lists:map/2", "n": "'...'",
			"header": `<<"Bearer ***">>`, "triple": "{basic_password," + hidden + "," + hidden + "}", "improper": "[a|b]", "tuple": "{1,2,3}", "empty": "{}",
			"nested":             "[[{deep,{x,[{passwd," + hidden + "}]}}]]",
			"'Elixir.Shop.Repo'": `[{username,"u"},{"Password",` + hidden + `},{pool,#{size => 3,<<"api_token">> => ` + hidden + `}},{url,<<"ecto://u:***@db:5432/x">>}]`,
			"urls":               `["amqp://guest:***@q/%2f",<<"https://***@sentry.io/1">>,"https://example.org/a@b?x=1&auth_token=***&y=2",<<"Host=db;Password=***;Port=1">>]`,
		} {
			assert.Equal(t, want, at[key], key)
		}
		assert.Less(t, len(at["big"]), 20000, "cut")
		assert.Less(t, len(at["long"]), 10000)
		assert.Contains(t, at["wide"], "'...'")

		q.Elixir = true
		env, err = r.Env(t.Context(), q)
		require.NoError(t, err)
		for _, e := range env.Entries {
			if e.Key == ":password" {
				assert.Equal(t, `:"**redacted**"`, e.Value)
			}
		}
		for _, app := range []string{"never_heard_of_this", "ok"} {
			q.App = app
			_, err = r.Env(t.Context(), q)
			require.ErrorIs(t, err, target.ErrNoApp)
		}
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// BenchmarkSystem asks many targets at once.
func BenchmarkSystem(b *testing.B) {
	n := 50
	if s, err := strconv.Atoi(os.Getenv("DEBUGHOST_BENCH_TARGETS")); err == nil {
		n = s
	}
	var beams []*erltest.Beam
	for range n {
		beams = append(beams, erltest.Start(b, erltest.Options{Args: []string{"+S", "2"}}))
	}
	r := attach(b, nil, beams...)
	for _, window := range []time.Duration{0, 200 * time.Millisecond} {
		b.Run(fmt.Sprintf("%d/window=%v", n, window), func(b *testing.B) {
			ask := func() time.Duration {
				t := time.Now()
				all, failed := r.systems(b, target.SystemQuery{Window: window, Ask: target.Ask{Timeout: time.Minute}})
				require.Empty(b, failed)
				require.Len(b, all, n)
				return time.Since(t)
			}
			ask()
			var ours []time.Duration
			for b.Loop() {
				ours = append(ours, ask())
			}
			b.ReportMetric(median(ours), "ours-ms")
		})
	}
}
