package erltest

import "testing"

// lendHere keeps nodes for one test, as Main does for a package.
func lendHere(t *testing.T) {
	if idle.open {
		t.Fatal("somebody lends already")
	}
	t.Cleanup(lendNodes())
}

// A node that a test leaves as it was, or that can be made so, is lent again;
// one that was changed, has ended, or stands still is not.
func TestBorrow(t *testing.T) {
	lendHere(t)
	EachAtOnce(t, func(t *testing.T, otp string) {
		borrow := func(do func(t *testing.T, b *Beam)) (b *Beam) {
			t.Run("", func(t *testing.T) {
				b = Borrow(t, otp)
				do(t, b)
			})
			return b
		}
		eval := func(source string) func(t *testing.T, b *Beam) {
			return func(t *testing.T, b *Beam) { b.MustEval(t, source) }
		}
		first := borrow(eval("ok"))
		for name, do := range map[string]func(t *testing.T, b *Beam){
			"process": eval("register(left, spawn(fun() -> ets:new(left, [named_table]), receive stop -> ok end end))"),
			"module":  func(t *testing.T, b *Beam) { b.LoadModule(t, "left", "-module(left).\n") },
			"old code": func(t *testing.T, b *Beam) {
				b.LoadModule(t, "left", "-module(left).\n")
				b.MustEval(t, "true = code:delete(left)")
			},
			"application": eval("{ok, _} = application:ensure_all_started(sasl)"),
			"library":     eval("lists:member(x, string:split(\"a b\", \" \"))"),
		} {
			if b := borrow(do); b != first {
				t.Fatalf("%s: another node was lent", name)
			}
			want := "{undefined,undefined,false,false,[],{error,nofile}}"
			seen := borrow(func(t *testing.T, b *Beam) {
				b.Await(t, "{whereis(left), ets:whereis(left), code:is_loaded(left), erlang:check_old_code(left), [A || {sasl = A, _, _} <- application:loaded_applications()], code:ensure_loaded(left)}", want)
			})
			if seen != first {
				t.Fatalf("%s: not mended", name)
			}
		}
		for name, do := range map[string]func(t *testing.T, b *Beam){
			"flag":        eval("erlang:system_flag(backtrace_depth, 3)"),
			"monitor":     eval("erlang:system_monitor(whereis(init), [busy_port])"),
			"level":       eval("logger:set_primary_config(level, error)"),
			"environment": eval("application:set_env(kernel, left, true)"),
			"term":        eval("persistent_term:put(left, true)"),
			"killed":      func(_ *testing.T, b *Beam) { b.Kill() },
			"frozen": func(t *testing.T, b *Beam) {
				if err := b.Freeze(); err != nil {
					t.Fatal(err)
				}
			},
		} {
			b := borrow(do)
			again := borrow(eval("ok"))
			if again == b {
				t.Errorf("%s: the node was lent again", name)
			}
		}
	})
}
