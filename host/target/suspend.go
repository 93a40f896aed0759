package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"fmt"
	"sync"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/hold.erl
var holdSource []byte

//go:embed agent/hold.beam
var holdBeam []byte

var holdModule = newCompanion("hold", holdSource, holdBeam)

// held are the processes of one target that are suspended for us, each by a
// process on the node that ends with our connection, and with that the
// suspension. One that has ended since is noticed when it is asked for.
type held struct {
	mu sync.Mutex
	by map[etf.Pid]etf.Pid // the process that holds each
}

func (h *held) get(pid etf.Pid) (holder etf.Pid, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	holder, ok = h.by[pid]
	return holder, ok
}

// put notes who holds a process. It forgets those of an earlier incarnation of
// the node.
func (h *held) put(pid, holder etf.Pid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[etf.Pid]etf.Pid{}
	}
	for p := range h.by {
		if p.Creation != pid.Creation {
			delete(h.by, p)
		}
	}
	h.by[pid] = holder
}

func (h *held) remove(pid etf.Pid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by, pid)
}

// suspend stops a process until it is resumed, or this debughost is gone.
func (a *act) suspend(ctx context.Context) error {
	if holder, ok := a.t.held.get(a.pid); ok {
		alive, err := a.call(ctx, "erlang", "is_process_alive", holder)
		if err != nil {
			return err
		}
		if atom(alive) == "true" {
			return hint(fmt.Errorf("%s: %w: debughost has suspended it already", a.tried, ErrConflict), "`debughost resume %s '%s'` ends that", a.link.Name(), pidText(a.pid))
		}
		a.t.held.remove(a.pid)
	}
	host, err := a.t.host(ctx, a.link)
	if err != nil {
		return a.t.otpError(a.tried, err)
	}
	reply, err := a.t.companionCall(ctx, a.link, holdModule, "suspend", a.pid, host)
	if err != nil {
		return a.t.otpError(a.tried, err)
	}
	if atom(reply) == "undefined" {
		return fmt.Errorf("%s: %w: it has ended", a.tried, ErrNoProcess)
	}
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 2 || atom(e[0]) != "ok" {
		return fmt.Errorf("%s: got %s", a.tried, printed(reply))
	}
	holder, ok := e[1].(etf.Pid)
	if !ok {
		return fmt.Errorf("%s: got %s", a.tried, printed(reply))
	}
	a.t.held.put(a.pid, holder)
	a.after(ctx)
	return nil
}

// host is the process of ours that what is on the target lives with; it has the
// helper loaded.
func (t *target) host(ctx context.Context, link *node.Peer) (etf.Pid, error) {
	if err := t.extend(ctx, link, holdModule); err != nil {
		return etf.Pid{}, err
	}
	host, ok := t.agent.tied()
	if !ok {
		return etf.Pid{}, ErrNotAttached
	}
	return host, nil
}

// resume ends what suspend began.
func (a *act) resume(ctx context.Context, info map[etf.Atom]etf.Term) error {
	notOurs := func() error {
		if atom(info["status"]) == "suspended" {
			return hint(fmt.Errorf("%s: %w: it was not this debughost that suspended it", a.tried, ErrConflict), "who suspends a process has to resume it; it goes on when that process ends")
		}
		return hint(fmt.Errorf("%s: %w: it is not suspended, but %s", a.tried, ErrConflict, atom(info["status"])), "a suspension ends with debughost's connection")
	}
	holder, ok := a.t.held.get(a.pid)
	if !ok {
		return notOurs()
	}
	reply, err := a.t.companionCall(ctx, a.link, holdModule, "resume", holder)
	if err != nil {
		return a.t.otpError(a.tried, err)
	}
	a.t.held.remove(a.pid)
	if atom(reply) != "resumed" {
		return notOurs()
	}
	a.after(ctx)
	return nil
}
