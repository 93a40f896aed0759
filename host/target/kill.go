package target

import (
	"context"
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

// Kill sends an exit signal to one process, from a process of its own node, and
// waits a moment for it to end.
func (m *Manager) Kill(ctx context.Context, q KillQuery) (KillResult, error) {
	reason, err := parseReason(q.Reason)
	if err != nil {
		return KillResult{}, err
	}
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return KillResult{}, err
	}
	pid, err := t.process(ctx, link, q.Process, !q.Force)
	if err != nil {
		return KillResult{}, err
	}
	info, err := t.processInfo(ctx, link, pid, vitalItems)
	if err != nil {
		return KillResult{}, err
	}
	done := KillResult{Node: link.Name(), Pid: pidText(pid), RegisteredName: atom(info["registered_name"]), Reason: printed(reason)}
	if !q.Force {
		if err := t.protected(ctx, link, pid, info); err != nil {
			return KillResult{}, err
		}
	}
	done.Alive, err = t.exit(ctx, link, pid, reason)
	if err != nil {
		return KillResult{}, err
	}
	m.cfg.Publish(events.Event{Type: events.ProcessKilled, Node: done.Node, Member: m.cfg.Member, Reason: done.Reason,
		Fields: map[string]string{"pid": done.Pid, "registered_name": done.RegisteredName}})
	return done, nil
}

// parseReason reads an exit reason as people of either language write it.
func parseReason(s string) (etf.Term, error) {
	if s == "" {
		return etf.Atom("kill"), nil
	}
	term, erlErr := etf.Parse(s, etf.Erlang)
	if erlErr == nil {
		return term, nil
	}
	if term, err := etf.Parse(s, etf.Elixir); err == nil {
		return term, nil
	}
	return nil, hint(fmt.Errorf("read reason %q: %w: %w", s, ErrBadQuery, erlErr), "a reason is a literal term: kill, shutdown, {shutdown, restart}, or :shutdown")
}

// exit sends the signal and tells whether the process is still there after a
// moment. It monitors first, so that it hears of this process's end only.
func (t *target) exit(ctx context.Context, link *node.Peer, pid etf.Pid, reason etf.Term) (alive bool, err error) {
	inbox := t.m.cfg.Node.NewMailbox(16)
	defer inbox.Close()
	if _, err := inbox.Monitor(pid); err != nil {
		return false, fmt.Errorf("kill %s on %s: %w", pidText(pid), link.Name(), err)
	}
	if _, err := t.call(ctx, link, "erlang", "exit", pid, reason); err != nil {
		return false, fmt.Errorf("kill %s on %s: %w", pidText(pid), link.Name(), err)
	}
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		msg, err := inbox.Receive(wait)
		switch {
		case err == nil && msg.Kind == node.Down:
			switch reason, _ := msg.Term(); atom(reason) {
			case "noproc":
				return false, fmt.Errorf("kill %s on %s: %w: it had ended already", pidText(pid), link.Name(), ErrNoProcess)
			case "noconnection":
				return false, fmt.Errorf("kill %s on %s: the signal was sent, but the connection ended before its effect was seen: %w", pidText(pid), link.Name(), link.Err())
			}
			return false, nil
		case err == nil:
		case wait.Err() != nil:
			return true, nil
		default:
			return false, fmt.Errorf("kill %s on %s: %w", pidText(pid), link.Name(), err)
		}
	}
}

// pairs reads a property list of {atom, Value}.
func pairs(t etf.Term) map[string]etf.Term {
	out := map[string]etf.Term{}
	for _, e := range tuples(t) {
		out[atom(e[0])] = e[1]
	}
	return out
}

// tuples returns the pairs of a list, and nothing of what is not a pair.
func tuples(t etf.Term) []etf.Tuple {
	list, _ := etf.Elements(t)
	var out []etf.Tuple
	for _, e := range list {
		if p, ok := e.(etf.Tuple); ok && len(p) == 2 {
			out = append(out, p)
		}
	}
	return out
}
