package target_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// person is one at a shell, who sees what a terminal would show: prompts are
// written when a line is wanted.
type person struct {
	t      testing.TB
	in     chan target.ShellInput
	done   chan struct{}
	cancel context.CancelFunc

	mu       sync.Mutex
	screen   strings.Builder
	wanted   []target.ShellOutput
	matches  []target.ShellOutput
	language string
	err      error
}

func (r *rig) shell(t testing.TB, q target.ShellQuery) *person {
	t.Helper()
	if q.Timeout == 0 {
		q.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &person{t: t, in: make(chan target.ShellInput), done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(p.done)
		err := r.Shell(ctx, q, p.in, p.take)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}()
	t.Cleanup(func() { cancel(); <-p.done })
	return p
}

func (p *person) take(o target.ShellOutput) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch o.Kind {
	case target.OutputStarted:
		p.language = o.Language
	case target.OutputText:
		p.screen.WriteString(o.Text)
	case target.OutputRead:
		p.wanted = append(p.wanted, o)
		p.screen.WriteString(o.Text)
	case target.OutputCompletions:
		p.matches = append(p.matches, o)
	}
	return nil
}

// sees waits for text that was not seen before, and goes on behind it.
func (p *person) sees(text string) string {
	p.t.Helper()
	var before string
	ok := assert.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		was, rest, found := strings.Cut(p.screen.String(), text)
		if found {
			before = was
			p.screen.Reset()
			p.screen.WriteString(rest)
		}
		return found
	}, 90*time.Second, 5*time.Millisecond)
	if !ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("waited for %q, the screen has %q, ended with %v", text, p.screen.String(), p.err)
	}
	return before
}

func (p *person) does(i target.ShellInput) {
	p.t.Helper()
	select {
	case p.in <- i:
	case <-p.done:
		p.t.Fatal("the shell has ended")
	case <-time.After(30 * time.Second):
		p.t.Fatal("the shell takes no input")
	}
}

func (p *person) types(line string) {
	p.t.Helper()
	p.does(target.ShellInput{Kind: target.InputLine, Line: line + "\n"})
}

// ends waits for the end of the shell.
func (p *person) ends() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the shell does not end")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *person) completes(before string) target.ShellOutput {
	p.t.Helper()
	p.does(target.ShellInput{Kind: target.InputComplete, Line: before, ID: 7})
	var o target.ShellOutput
	require.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.matches) == 0 {
			return false
		}
		o, p.matches = p.matches[0], p.matches[1:]
		return true
	}, 90*time.Second, 5*time.Millisecond)
	assert.Equal(p.t, uint32(7), o.ID)
	return o
}

func (p *person) lastWanted() target.ShellOutput {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted[len(p.wanted)-1]
}

// processes counts those of the node, so that a test sees whether some are left.
const processes = "length(processes())"

func TestShellErlang(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		r := attach(t, func(*target.Config) {}, b)
		p := r.shell(t, target.ShellQuery{Node: b.Name, Columns: 100, Rows: 40})
		p.sees("Eshell V")
		p.sees("1> ")
		assert.Equal(t, "erlang", p.language)
		assert.Equal(t, "expression", p.lastWanted().Wanted)
		p.types("X = 20 +")
		p.sees("1> ")
		assert.True(t, p.lastWanted().More)
		p.types("22.")
		p.sees("42\n")
		p.sees("2> ")
		p.types(`io:format("~ts ~p ~p~n", [<<"hé"/utf8>>, io:columns(), io:rows()]).`)
		p.sees("hé {ok,100} {ok,40}\n")
		p.does(target.ShellInput{Kind: target.InputSize, Columns: 70, Rows: 20})
		p.types("io:columns().")
		p.sees("{ok,70}")
		p.types("a. b.")
		p.sees("a\n")
		p.sees("b\n")

		// Reading, by what was evaluated.
		p.types(`{io:get_line("name? "), io:get_chars("three? ", 3)}.`)
		p.sees("name? ")
		assert.Equal(t, "line", p.lastWanted().Wanted)
		p.types("joe")
		p.sees("three? ")
		p.types("ab")
		p.sees(`{"joe\n","ab\n"}`)
		p.types("io:get_password(group_leader()).")
		require.Eventually(t, func() bool { return p.lastWanted().Wanted == "password" }, 90*time.Second, 5*time.Millisecond)
		p.types("secret")
		p.sees(`"secret"`)
		p.types("1 + .")
		p.sees("syntax error")
		p.types("lists:last([]).")
		p.sees("** exception error: no function clause matching")
		p.types("X.")
		p.sees("42")
		p.types("spawn(fun() -> io:format(\"from elsewhere~n\") end), ok.")
		p.sees("from elsewhere\n")

		// Interrupting: what runs, what reads, and half an expression.
		p.types("register(busy, self()), timer:sleep(infinity).")
		b.Await(t, "is_pid(whereis(busy))", "true")
		p.does(target.ShellInput{Kind: target.InputInterrupt})
		p.sees("exception exit: killed")
		b.Await(t, "whereis(busy)", "undefined")
		p.sees("> ")
		p.types("{half")
		p.sees("> ")
		p.does(target.ShellInput{Kind: target.InputInterrupt})
		p.sees("> ")
		p.types("{whole}.")
		p.sees("{whole}\n")
		p.types("X.")
		p.sees("42\n")

		o := p.completes("lists:rever")
		assert.Equal(t, "se", strings.TrimSuffix(o.Text, "("))
		o = p.completes("erlang:process_")
		assert.Contains(t, strings.Join(o.Matches, " "), "process_info")
		assert.Empty(t, p.completes("nosuchmodule:x").Matches)

		// Large output comes in order, and whole where it is not beyond the bound.
		p.types(`[io:put_chars([integer_to_list(I), $\n]) || I <- lists:seq(1, 50000)], done.`)
		next := 1
		for line := range strings.SplitSeq(p.sees("done\n"), "\n") {
			if n, err := strconv.Atoi(line[strings.LastIndex(line, " ")+1:]); err == nil { // behind a prompt, the first
				require.Equal(t, next, n)
				next++
			}
		}
		assert.Equal(t, 50001, next)
		p.sees("> ")
		p.types(`io:put_chars(lists:duplicate(700000, $é)), done.`)
		large := p.sees("done\n")
		assert.Contains(t, large, "bytes more)")
		assert.Less(t, len(large), 1100<<10)

		before := b.MustEval(t, processes)
		p.types("register(busy, self()), process_flag(trap_exit, true), F = fun(F) -> receive _ -> F(F) end end, F(F).")
		b.Await(t, "is_pid(whereis(busy))", "true")
		close(p.in)
		assert.NoError(t, p.ends())
		assert.Equal(t, "undefined", b.MustEval(t, "whereis(busy)"))
		assert.NotEqual(t, before, b.MustEval(t, processes))
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

func TestShellElixir(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Elixir: true})
		r := attach(t, func(*target.Config) {}, b)
		p := r.shell(t, target.ShellQuery{Node: b.Name, Columns: 100, Rows: 40})
		p.sees("Interactive Elixir")
		p.sees("1> ")
		assert.Equal(t, "elixir", p.language)
		p.types("x = [20,")
		p.sees("> ")
		p.types("22] |> Enum.sum()")
		p.sees("42\n")
		p.types(`IO.gets("name? ")`)
		p.sees("name? ")
		p.types("joe")
		p.sees(`"joe\n"`)
		p.types(`raise "oops"`)
		p.sees("** (RuntimeError) oops")
		p.types(`)`)
		p.sees("** (")
		p.types("x + 1")
		p.sees("43\n")
		p.types("Process.register(self(), :busy); Process.sleep(:infinity)")
		b.Await(t, "is_pid(whereis(busy))", "true")
		p.does(target.ShellInput{Kind: target.InputInterrupt})
		p.sees("** (EXIT) interrupted")
		b.Await(t, "whereis(busy)", "undefined")
		p.sees("> ")
		p.types("{:half,")
		p.sees("> ")
		p.does(target.ShellInput{Kind: target.InputInterrupt})
		p.sees("** (EXIT) interrupted")
		p.sees("> ")
		p.types("variable = {:whole}")
		p.sees("{:whole}\n")

		o := p.completes("Enum.rever")
		assert.Equal(t, "se", o.Text)
		assert.Contains(t, p.completes("Enum.ma").Matches, "map/2")
		assert.Equal(t, "able", p.completes("vari").Text)

		// Another shell, of Erlang.
		e := r.shell(t, target.ShellQuery{Node: b.Name, Language: target.LanguageErlang})
		e.sees("Eshell")
		e.types("io:columns().")
		e.sees("{error,enotsup}")

		close(p.in)
		assert.NoError(t, p.ends())
		b.Await(t, "lists:keymember(iex, 1, application:which_applications())", "false")
		e.cancel()
		assert.ErrorIs(t, e.ends(), context.Canceled)
		r.stop()
		b.Await(t, agents, unloaded)
	})
}

// Whatever ends a shell, nothing of it is left on the node.
func TestShellLeavesNothing(t *testing.T) {
	t.Parallel()
	const busy = "register(busy, self()), process_flag(trap_exit, true), F = fun(F) -> receive _ -> F(F) end end, F(F)."
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Borrow(t, otp)
		other := attach(t, func(*target.Config) {}, b)
		start := func(r *rig) *person {
			p := r.shell(t, target.ShellQuery{Node: b.Name})
			p.sees("1> ")
			p.types(busy)
			b.Await(t, "is_pid(whereis(busy))", "true")
			return p
		}
		gone := func() {
			b.Await(t, "whereis(busy)", "undefined")
			b.Await(t, "[P || P <- processes(), {current_stacktrace, S} <- [process_info(P, current_stacktrace)], lists:keymember(shell, 1, S)]", "[]")
		}

		// The person leaves; the node of the debugger vanishes; it detaches.
		p := start(other)
		p.cancel()
		assert.ErrorIs(t, p.ends(), context.Canceled)
		gone()

		r := attach(t, func(*target.Config) {}, b)
		p = start(r)
		b.MustEval(t, "[erlang:disconnect_node(N) || N <- nodes(hidden)]")
		assert.ErrorContains(t, p.ends(), "connection")
		gone()
		r.stop()

		r = attach(t, func(*target.Config) {}, b)
		p = start(r)
		r.stop()
		assert.Error(t, p.ends())
		gone()
		other.stop()
		b.Await(t, agents, unloaded)

		// The shell itself ends, or is ended.
		r = attach(t, func(*target.Config) {}, b)
		p = r.shell(t, target.ShellQuery{Node: b.Name})
		p.sees("1> ")
		b.MustEval(t, "[exit(P, kill) || P <- processes(), {dictionary, D} <- [process_info(P, dictionary)], lists:keymember(evaluator, 1, D)]")
		assert.ErrorContains(t, p.ends(), "killed")

		// The person's terminal breaks.
		err := r.Shell(t.Context(), target.ShellQuery{Node: b.Name}, nil, func(o target.ShellOutput) error {
			if o.Kind == target.OutputText {
				return errors.New("no terminal")
			}
			return nil
		})
		assert.EqualError(t, err, "no terminal")
		gone()
	})
}

func TestShellRefuses(t *testing.T) {
	t.Parallel()
	b := erltest.Borrow(t, "")
	r := attach(t, func(c *target.Config) { c.AgentNever = true }, b)
	assert.ErrorIs(t, r.shell(t, target.ShellQuery{Node: b.Name}).ends(), target.ErrNotHere)
	assert.ErrorIs(t, r.shell(t, target.ShellQuery{Node: b.Name, Language: "lfe"}).ends(), target.ErrBadQuery)
	assert.ErrorIs(t, r.shell(t, target.ShellQuery{Node: "none"}).ends(), target.ErrNoTarget)
	r = attach(t, func(*target.Config) {}, b)
	err := r.shell(t, target.ShellQuery{Node: b.Name, Language: target.LanguageElixir}).ends()
	assert.ErrorIs(t, err, target.ErrNotHere)
	assert.ErrorContains(t, err, "IEx")
}
