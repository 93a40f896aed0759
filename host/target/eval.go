package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

//go:embed agent/eval.erl
var evalSource []byte

//go:embed agent/eval.beam
var evalBeam []byte

var evalModule = newCompanion("eval", evalSource, evalBeam)

const (
	// MaxExpression bounds an expression, in bytes.
	MaxExpression = 64 << 10
	// usualText is where text and output are cut unless the query says otherwise.
	usualText = 64 << 10
	// evalWords is the heap that an evaluation may have, in words: 512 MB.
	evalWords = 64 << 20
	// evalGrace is what the target gets to say that the time is over.
	evalGrace = 2 * time.Second
)

// The languages of an expression and of a shell.
const (
	LanguageAuto   = "auto" // Elixir where the target runs it
	LanguageErlang = "erlang"
	LanguageElixir = "elixir"
)

// EvalQuery asks a target to evaluate an expression.
type EvalQuery struct {
	Node       string
	Expression string        // some expressions, in Erlang with or without the final dot
	Language   string        // LanguageAuto by default
	MaxBytes   int           // where text and output are cut; default 64 KiB
	Timeout    time.Duration // after which the evaluation is killed
}

// Outcomes of an evaluation.
const (
	EvalValue     = "value"
	EvalException = "exception"
	EvalTimeout   = "timeout" // it was killed
	EvalKilled    = "killed"  // it used too much memory, or ended itself
)

// ErrNotHere means that the target lacks what an operation needs.
var ErrNotHere = &Kind{"conflict", "not possible on this target"}

// EvalResult is what came of an evaluation.
type EvalResult struct {
	Node       string
	Language   string
	Outcome    string
	Value      string // as JSON; see JSON for how
	Text       string // the value, or what went wrong, as the language prints it
	Truncated  bool   // Text is cut
	Output     string // what was printed
	OutputLeft uint64 // bytes left out of Output
}

// Eval evaluates an expression in a process of its own on a target, and catches
// what it prints. An exception is a result, not an error.
func (m *Manager) Eval(ctx context.Context, q EvalQuery) (EvalResult, error) {
	switch {
	case q.Expression == "":
		return EvalResult{}, fmt.Errorf("evaluate on %s: %w: there is no expression", q.Node, ErrBadQuery)
	case len(q.Expression) > MaxExpression || !utf8.ValidString(q.Expression):
		return EvalResult{}, fmt.Errorf("evaluate on %s: %w: an expression is at most %d bytes of UTF-8", q.Node, ErrBadQuery, MaxExpression)
	}
	language, err := languageOf(q.Language)
	if err != nil {
		return EvalResult{}, err
	}
	if q.MaxBytes <= 0 {
		q.MaxBytes = usualText
	}
	if q.Timeout <= 0 {
		q.Timeout = m.cfg.CallTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, q.Timeout+evalGrace)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return EvalResult{}, err
	}
	reply, err := t.actCall(ctx, link, evalModule, "eval", language, etf.Binary(q.Expression), etf.Map{
		{Key: etf.Atom("timeout"), Value: etf.Int(q.Timeout.Milliseconds())},
		{Key: etf.Atom("text"), Value: etf.Int(q.MaxBytes)},
		{Key: etf.Atom("heap"), Value: etf.Int(evalWords)},
	})
	if err != nil {
		return EvalResult{}, evalError(link, err)
	}
	r, err := parseEval(link.Name(), reply)
	if err != nil {
		return EvalResult{}, err
	}
	switch r.Outcome {
	case EvalTimeout:
		r.Text = fmt.Sprintf("it did not end within %v and was killed", q.Timeout)
	case EvalKilled:
		if r.Text == "killed" {
			r.Text = fmt.Sprintf("it was killed, perhaps for its memory: more than %d MB are not allowed", evalWords*8>>20)
		} else {
			r.Text = "its process ended with " + r.Text
		}
	}
	m.cfg.Publish(events.Event{
		Type: events.Evaluated, Node: r.Node, Member: m.cfg.Member, Reason: r.Outcome,
		Fields: map[string]string{"language": r.Language},
	})
	return r, nil
}

// actCall is companionCall for what must not be done twice: once it may have
// begun, it is not tried again.
func (t *target) actCall(ctx context.Context, link *node.Peer, c *companion, function string, args ...etf.Term) (etf.Term, error) {
	for tries := 0; ; tries++ {
		if err := t.extend(ctx, link, c); err != nil {
			return nil, err
		}
		reply, err := t.helperCall(ctx, link, c.module, function, args...)
		var remote *node.CallError
		if tries == 2 || !errors.Is(err, errAgentLeft) && (!errors.As(err, &remote) || !remote.Undefined()) {
			return reply, err
		}
		t.agent.reset() // it left at the same moment
	}
}

func languageOf(s string) (etf.Term, error) {
	switch s {
	case "", LanguageAuto:
		return etf.Atom(LanguageAuto), nil
	case LanguageErlang, LanguageElixir:
		return etf.Atom(s), nil
	}
	return nil, fmt.Errorf("language %q: %w: it is none of auto, erlang, elixir", s, ErrBadQuery)
}

func evalError(link *node.Peer, err error) error {
	var remote *node.CallError
	switch {
	case errors.Is(err, errNoAgent):
		return needsHelper("evaluate", link, "expressions are run by it")
	case errors.As(err, &remote) && atom(remote.Reason) == "no_elixir":
		return noElixir("evaluate on "+link.Name(), "--erlang")
	}
	return err
}

func noElixir(tried, flag string) error {
	return hint(fmt.Errorf("%s: %w: the node does not have Elixir", tried, ErrNotHere), "%s does without it", flag)
}

// parseEval reads {Outcome, Language, Value, Text, Cut, Output, Left}.
func parseEval(name string, reply etf.Term) (EvalResult, error) {
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 7 {
		return EvalResult{}, fmt.Errorf("evaluate on %s: got %s", name, printed(reply))
	}
	r := EvalResult{
		Node: name, Outcome: atom(e[0]), Language: atom(e[1]), Value: "null", Text: text(e[3]),
		Truncated: atom(e[4]) == "true", Output: text(e[5]), OutputLeft: count(e[6]),
	}
	switch r.Outcome {
	case EvalValue:
		syntax := etf.Erlang
		if r.Language == LanguageElixir {
			syntax = etf.Elixir
		}
		r.Value = JSON(e[2], etf.PrintOptions{Syntax: syntax, MaxDepth: 100, MaxBytes: 4096, Node: etf.Atom(name)})
	case EvalException, EvalTimeout, EvalKilled:
	default:
		return EvalResult{}, fmt.Errorf("evaluate on %s: got %s", name, printed(reply))
	}
	return r, nil
}
