package erltest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// EvalError is an exception that an evaluated expression raised.
type EvalError struct {
	Exception string // {Class, Reason, Stacktrace} as Erlang prints it
}

func (e *EvalError) Error() string { return "evaluate expression: " + e.Exception }

// evalTimeout bounds Eval and its relatives without a context.
const evalTimeout = 60 * time.Second

// terminated gives an expression the dot that Erlang's parser wants.
func terminated(expr string) string {
	if s := strings.TrimSpace(expr); strings.HasSuffix(s, ".") {
		return s
	}
	return expr + "\n."
}

// Eval evaluates Erlang expressions on the node, in a process of their own,
// and returns the last one's value as Erlang prints it, on one line. A raised
// exception is an *EvalError.
func (b *Beam) Eval(expr string) (string, error) {
	out, err := b.eval(context.Background(), modeText, terminated(expr))
	return string(out), err
}

// EvalContext is Eval that ends with ctx; the evaluation on the node does not.
func (b *Beam) EvalContext(ctx context.Context, expr string) (string, error) {
	out, err := b.eval(ctx, modeText, terminated(expr))
	return string(out), err
}

// EvalETF is Eval with the result in the external term format, version byte
// included.
func (b *Beam) EvalETF(expr string) ([]byte, error) {
	return b.eval(context.Background(), modeETF, terminated(expr))
}

// EvalElixir evaluates Elixir code on a node started with Options.Elixir; the
// result is what inspect/1 says.
func (b *Beam) EvalElixir(code string) (string, error) {
	out, err := b.eval(context.Background(), modeElixir, code)
	return string(out), err
}

func (b *Beam) eval(ctx context.Context, mode byte, source string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, evalTimeout)
	defer cancel()
	b.mu.Lock()
	ctl := b.ctl
	b.mu.Unlock()
	if ctl == nil {
		return nil, ErrNotRunning
	}
	out, err := ctl.request(ctx, mode, source)
	if err != nil {
		return nil, fmt.Errorf("on %s: %w", b.Name, err)
	}
	return out, nil
}

// MustEval is Eval that fails the test on an error.
func (b *Beam) MustEval(t testing.TB, expr string) string {
	t.Helper()
	out, err := b.Eval(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return out
}

// Await evaluates an expression until its printed value is want, and fails the
// test if it is not within the time that any evaluation has.
func (b *Beam) Await(t testing.TB, expr, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), evalTimeout)
	defer cancel()
	var got string
	err := poll(ctx, func() (_ bool, err error) {
		got, err = b.Eval(expr)
		return got == want, err
	})
	if err != nil {
		t.Fatalf("%s on %s: %v; want %s, last got %s", expr, b.Name, err, want, got)
	}
}
