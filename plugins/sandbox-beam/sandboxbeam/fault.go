//go:build unix

package sandboxbeam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

func init() {
	operations["inject"] = (*Strategy).inject
	operations["faults"] = (*Strategy).faults
	operations["clear"] = (*Strategy).clear
}

// Fault is the input of inject: what is to go wrong (boot/debughost_fault.erl). A
// process is a registered name as it is printed, or a pid of the sandbox's node.
type Fault struct {
	Fault   string `json:"fault"`    // kill, suspend, drop, delay, fill or limit
	Process string `json:"process"`  // that it happens to; of limit, the supervisor
	From    string `json:"from"`     // of drop and delay: who sends; empty is any
	To      string `json:"to"`       // of drop and delay: who receives; empty is any
	EveryMS int64  `json:"every_ms"` // of kill and suspend: again and again; 0 is once
	ForMS   int64  `json:"for_ms"`   // of suspend how long the process stands, else how long the fault acts; 0 is until it is cleared
	Count   int64  `json:"count"`    // times, or messages; 0 is no limit
	DelayMS int64  `json:"delay_ms"` // of delay
	Message string `json:"message"`  // of fill, as a term
}

const (
	maxFault   = 24 * 60 * 60 * 1000 // for_ms
	minEvery   = 10
	maxDelay   = 60 * 60 * 1000
	maxCount   = 1_000_000
	limitFor   = 60_000 // for_ms of limit, where it is not given
	limitCount = 1000
	maxTerm    = 1 << 20 // bytes of a message's text
)

// faultTakes says which fields a fault has, beside its own name and for_ms.
var faultTakes = map[string][]string{
	"kill":    {"process", "every_ms", "count"},
	"suspend": {"process", "every_ms", "count"},
	"drop":    {"from", "to", "count"},
	"delay":   {"from", "to", "count", "delay_ms"},
	"fill":    {"process", "count", "message"},
	"limit":   {"process", "count"},
}

// check completes and checks what is asked for, and returns it as the node takes it.
func (f *Fault) check() (etf.Term, error) {
	takes, ok := faultTakes[f.Fault]
	if !ok {
		return nil, sdk.Invalid("fault", fmt.Sprintf("%.50q is none of kill, suspend, drop, delay, fill, limit", f.Fault))
	}
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"process", f.Process != ""}, {"from", f.From != ""}, {"to", f.To != ""}, {"every_ms", f.EveryMS != 0},
		{"count", f.Count != 0}, {"delay_ms", f.DelayMS != 0}, {"message", f.Message != ""},
	} {
		if field.set && !slices.Contains(takes, field.name) {
			return nil, sdk.Invalid(field.name, f.Fault+" does not take it")
		}
	}
	for _, bound := range []struct {
		name            string
		value, min, max int64
	}{
		{"for_ms", f.ForMS, 0, maxFault}, {"every_ms", f.EveryMS, minEvery, maxFault}, {"count", f.Count, 0, maxCount}, {"delay_ms", f.DelayMS, 1, maxDelay},
	} {
		if bound.value != 0 && (bound.value < bound.min || bound.value > bound.max) {
			return nil, sdk.Invalid(bound.name, fmt.Sprintf("%d is not between %d and %d", bound.value, bound.min, bound.max))
		}
	}
	switch {
	case slices.Contains(takes, "process") && f.Process == "":
		return nil, sdk.Invalid("process", "which one?")
	case slices.Contains(takes, "from") && f.From == "" && f.To == "":
		return nil, sdk.Invalid("to", "name who sends, who receives, or both")
	case f.Fault == "delay" && f.DelayMS == 0:
		return nil, sdk.Invalid("delay_ms", "for how long?")
	case f.Fault == "fill" && f.Count == 0:
		return nil, sdk.Invalid("count", "how many messages?")
	case slices.Contains(takes, "every_ms") && f.EveryMS == 0 && f.Count > 1:
		return nil, sdk.Invalid("every_ms", "more than once needs it")
	case f.Fault == "kill" && f.EveryMS == 0 && f.ForMS > 0:
		return nil, sdk.Invalid("every_ms", "for a time needs it")
	case f.Fault == "suspend" && f.EveryMS > 0 && (f.ForMS == 0 || f.ForMS >= f.EveryMS):
		return nil, sdk.Invalid("for_ms", "has to be less than every_ms: it is how long the process stands each time")
	}
	count, lasts := f.Count, f.ForMS
	if f.Fault == "limit" {
		count, lasts = cmp.Or(count, limitCount), cmp.Or(lasts, limitFor)
	}
	var message etf.Term = etf.Tuple{etf.Atom("debughost_fault"), etf.Atom("fill")}
	if f.Message != "" {
		if len(f.Message) > maxTerm {
			return nil, sdk.Invalid("message", fmt.Sprintf("%d bytes are more than %d", len(f.Message), maxTerm))
		}
		var err error
		if message, err = readTerm(f.Message, etf.Erlang); err != nil {
			return nil, sdk.Invalid("message", err.Error())
		}
		named := newForeign()
		named.fresh = make([]etf.Term, strings.Count(f.Message, "#Ref"))
		if named.here(message); len(named.gone) > 0 {
			return nil, sdk.Invalid("message", "a pid, a port or a reference cannot be in it")
		}
	}
	spec := etf.Map{
		{Key: etf.Atom("fault"), Value: etf.Atom(f.Fault)}, {Key: etf.Atom("every"), Value: etf.Int(f.EveryMS)}, {Key: etf.Atom("for"), Value: etf.Int(lasts)},
		{Key: etf.Atom("count"), Value: etf.Int(count)}, {Key: etf.Atom("delay"), Value: etf.Int(f.DelayMS)}, {Key: etf.Atom("message"), Value: message},
	}
	for _, p := range []struct{ name, value string }{{"process", f.Process}, {"from", f.From}, {"to", f.To}} {
		target, err := processTerm(p.name, p.value)
		if err != nil {
			return nil, err
		}
		spec = append(spec, etf.Pair{Key: etf.Atom(p.name), Value: target})
	}
	return spec, nil
}

// processTerm is a process as debughost_fault takes it: none, {pid, Text}, {name, Text}.
func processTerm(field, text string) (etf.Term, error) {
	if text == "" {
		return etf.Atom("none"), nil
	}
	if strings.HasPrefix(text, "<") || strings.HasPrefix(text, "#PID<") {
		id, serial, err := etf.ParsePid(text)
		if err != nil {
			return nil, sdk.Invalid(field, err.Error())
		}
		return etf.Tuple{etf.Atom("pid"), etf.Binary(fmt.Sprintf("<0.%d.%d>", id, serial))}, nil
	}
	name, err := etf.ParseName(text)
	if err != nil {
		return nil, sdk.Invalid(field, err.Error())
	}
	return etf.Tuple{etf.Atom("name"), etf.Binary(name)}, nil
}

func (s *Strategy) inject(ctx context.Context, id string, raw []byte) (any, error) {
	f, err := input[Fault](raw)
	if err != nil {
		return nil, err
	}
	spec, err := f.check()
	if err != nil {
		return nil, err
	}
	return s.fault(ctx, id, "inject", spec)
}

func (s *Strategy) faults(ctx context.Context, id string, raw []byte) (any, error) {
	if _, err := input[struct{}](raw); err != nil {
		return nil, err
	}
	list, err := s.fault(ctx, id, "faults")
	return map[string]any{"faults": list}, err
}

func (s *Strategy) clear(ctx context.Context, id string, raw []byte) (any, error) {
	in, err := input[struct {
		ID *int64 `json:"id"`
	}](raw)
	switch {
	case err != nil:
		return nil, err
	case in.ID == nil || *in.ID < 0:
		return nil, sdk.Invalid("id", "which fault? 0 is all of them")
	}
	return s.fault(ctx, id, "clear", etf.Int(*in.ID))
}

// fault calls a function of debughost_fault.
func (s *Strategy) fault(ctx context.Context, id, function string, args ...etf.Term) (any, error) {
	answer, err := s.rpc(ctx, id, "debughost_fault", function, args...)
	if err != nil {
		return nil, err
	}
	value, err := toReply(answer)
	if err != nil {
		return nil, err
	}
	return plain(value), nil
}

// readTerm reads a term in one syntax, or else in the other; the error is the one's.
func readTerm(text string, syntax etf.Syntax) (etf.Term, error) {
	t, err := etf.Parse(text, syntax)
	if err == nil {
		return t, nil
	}
	other := etf.Elixir
	if syntax == etf.Elixir {
		other = etf.Erlang
	}
	if t, otherErr := etf.Parse(text, other); otherErr == nil {
		return t, nil
	}
	var parse *etf.ParseError
	if errors.As(err, &parse) && (strings.HasSuffix(text, "...") || strings.Contains(text, "#Fun<") || strings.Contains(text, "#Function<")) {
		return nil, fmt.Errorf("%w: what was cut, and functions, cannot be read", err)
	}
	return nil, err
}
