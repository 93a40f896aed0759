package target

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// oldestRelease is the first OTP release whose protocol and processes are known.
const oldestRelease = 25

// call runs one function on the target within the target's budget of calls
// under way. A deadline that passes is ErrTimeout, and makes the target look
// whether the node answers at all.
func (t *target) call(ctx context.Context, link *node.Peer, module, function string, args ...etf.Term) (etf.Term, error) {
	select {
	case t.calls <- struct{}{}:
	default:
		t.cost.note(func(c *Cost) { c.Slowed++ })
		select {
		case t.calls <- struct{}{}:
		case <-ctx.Done():
			return nil, t.crowded(ctx, link)
		}
	}
	defer func() { <-t.calls }()
	reply, err := t.cost.call(ctx, link, module, function, args...)
	return reply, t.timedOut(ctx, link, err)
}

// noRoom is the error of a walk that did not begin in time.
func (t *target) noRoom(ctx context.Context, link *node.Peer) error {
	if !errors.Is(context.Cause(ctx), ErrTimeout) && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return hint(fmt.Errorf("%s: %w: %d walks over its processes were under way already", link.Name(), ErrTimeout, maxWalks), "try again soon, or wait longer with --timeout")
}

func (t *target) crowded(ctx context.Context, link *node.Peer) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return hint(fmt.Errorf("%s: %w: %d calls were under way already", link.Name(), ErrTimeout, cap(t.calls)), "the budget is [targets] max_calls")
}

// timedOut makes the end of ctx a sentence.
func (t *target) timedOut(ctx context.Context, link *node.Peer, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ErrTimeout) {
		return err
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return t.noAnswer(link)
}

// noAnswer is the error of a question whose time is over; it has an
// unresponsive target noticed.
func (t *target) noAnswer(link *node.Peer) error {
	t.unanswered(link)
	return hint(fmt.Errorf("%s: %w", link.Name(), ErrTimeout), "the node is busy or frozen; --timeout waits longer")
}

// agentCall calls the helper module, loading it when it is not there.
func (t *target) agentCall(ctx context.Context, link *node.Peer, function string, args ...etf.Term) (etf.Term, error) {
	if t.m.cfg.AgentNever {
		return nil, errNoAgent
	}
	for tries := 0; ; tries++ {
		was := t.agent.state(false)
		err := t.agent.use(ctx, t.m.cfg.Node, link)
		if t.agent.state(false) != was {
			t.report()
		}
		if err != nil {
			return nil, t.timedOut(ctx, link, err)
		}
		reply, err := t.helperCall(ctx, link, agentModule, function, args...)
		if err == nil || tries == 2 || !t.agentGone(ctx, link, agentModule, err) {
			return reply, err
		}
		t.agent.reset()
	}
}

// errAgentLeft says that the helper module left while a call to it was made.
var errAgentLeft = errors.New("the helper module has left")

// helperCall calls a function of the helper or of a companion by way of the helper,
// which counts what it costs there. An error is that of the function.
func (t *target) helperCall(ctx context.Context, link *node.Peer, module, function string, args ...etf.Term) (etf.Term, error) {
	m := t.agent.measure()
	if m == nil {
		return nil, fmt.Errorf("call %s:%s on %s: %w", module, function, link.Name(), errAgentLeft)
	}
	reply, err := t.call(ctx, link, agentModule, "run", m.term, etf.Atom(module), etf.Atom(function), etf.List(args))
	if err != nil {
		var e *node.CallError
		if errors.As(err, &e) && !e.Undefined() {
			e.Module, e.Function, e.Arity = module, function, len(args)
		}
		return nil, err
	}
	pair, ok := reply.(etf.Tuple)
	if !ok || len(pair) != 2 {
		return nil, fmt.Errorf("call %s:%s on %s: got %s", module, function, link.Name(), printed(reply))
	}
	t.cost.spent(m, count(pair[1]))
	return pair[0], nil
}

// agentGone tells whether a call failed because the module was not there, or
// was taken away under it: its keeper was killed, or another debughost left at
// the same moment.
func (t *target) agentGone(ctx context.Context, link *node.Peer, module string, err error) bool {
	var e *node.CallError
	switch {
	case errors.Is(err, errAgentLeft):
		return true
	case !errors.As(err, &e) || e.Module != module && e.Module != agentModule:
		return false
	case e.Undefined():
		return true
	}
	if e.Class != node.ClassSignal {
		return false
	}
	// Killed by the purge, or by its own limit of memory?
	loaded, err := t.call(ctx, link, "erlang", "module_loaded", etf.Atom(module))
	return err == nil && atom(loaded) == "false"
}

// otpRelease asks for the release, "27".
func (t *target) otpRelease(ctx context.Context, link *node.Peer) (string, error) {
	reply, err := t.cost.call(ctx, link, "erlang", "system_info", etf.Atom("otp_release"))
	if err != nil {
		return "", err
	}
	return text(reply), nil
}

// tickSooner sends ticks as often as the target expects: one with a short
// net_ticktime would take us for gone. A target that does not tell keeps the
// configured time.
func (t *target) tickSooner(ctx context.Context, link *node.Peer) {
	reply, err := t.cost.call(ctx, link, "net_kernel", "get_net_ticktime")
	if err != nil {
		return
	}
	if e, ok := reply.(etf.Tuple); ok && len(e) == 2 { // {ongoing_change_to, T}
		reply = e[1]
	}
	if n, ok := reply.(etf.Int); ok && n > 0 && n < 1<<20 {
		link.TickSooner(time.Duration(n) * time.Second)
	}
}

func tooOld(release string) (Verdict, bool) {
	n, err := strconv.Atoi(release)
	if err != nil || n >= oldestRelease {
		return Verdict{}, false
	}
	return Verdict{
		State:  Refused,
		Reason: fmt.Sprintf("version too old: the node runs OTP %s", release),
		Hint:   fmt.Sprintf("debughost attaches to OTP %d and later", oldestRelease),
		Slow:   true,
	}, true
}

// deadline bounds one question to one target.
func (m *Manager) deadline(ctx context.Context, d, extra time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		d = m.cfg.CallTimeout + extra
	}
	return context.WithTimeout(ctx, d)
}

// text reads a string that Erlang sent as a list, a binary or an atom.
func text(t etf.Term) string {
	switch t := t.(type) {
	case etf.String:
		return string(t)
	case etf.Binary:
		return string(t)
	case etf.Atom:
		return string(t)
	case etf.List:
		r := make([]rune, 0, len(t))
		for _, c := range t {
			n, ok := c.(etf.Int)
			if !ok {
				return ""
			}
			r = append(r, rune(n))
		}
		return string(r)
	}
	return ""
}

// printed is a term in an error: short, in Erlang's syntax.
func printed(t etf.Term) string {
	return etf.Format(t, etf.PrintOptions{Syntax: etf.Erlang, MaxDepth: 6, MaxBytes: 300})
}
