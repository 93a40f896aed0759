package target

import (
	"context"
	"crypto/sha256"
	_ "embed" // the agent's source and compiled module
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:generate sh agent/build.sh

//go:embed agent/debughost_agent.erl
var agentSource []byte

//go:embed agent/debughost_agent.beam
var agentBeam []byte

// agentModule is the name under which agentBeam loads: it carries a hash of the
// source, so that two versions of debughost never replace each other's code.
var agentModule = func() string {
	sum := sha256.Sum256(agentSource)
	return "debughost_agent_" + hex.EncodeToString(sum[:])[:8]
}()

// errNoAgent says that the helper module may not be used on this target.
var errNoAgent = errors.New("the helper module is not used on this target")

// agent is the helper module on one target: loaded by the first question that
// needs it, tied to an inbox of ours, gone when that inbox is.
type agent struct {
	mu      sync.Mutex
	loading chan struct{} // not nil while one caller loads; closed when it is done
	host    *node.Mailbox // what the keeper on the target monitors; not nil once loaded
	keeper  etf.Pid
	meter   *meter          // of the keeper; not nil once loaded
	refused string          // why loading failed: not tried again on this connection
	loaded  map[string]bool // companions, by module
	// leaving says that the module is being removed from this connection: a call
	// that this cuts off must not load it again behind it.
	leaving bool
	cost    *cost // of the target
}

func (a *agent) state(never bool) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case never:
		return "never"
	case a.host != nil:
		return "loaded"
	case a.refused != "":
		return "refused: " + a.refused
	}
	return ""
}

// tied is the process of ours that the keeper on the target monitors; there is
// none before the module is loaded.
func (a *agent) tied() (etf.Pid, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host == nil {
		return etf.Pid{}, false
	}
	return a.host.Pid(), true
}

// measure is the meter of the helper that is loaded, nil without one.
func (a *agent) measure() *meter {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host == nil {
		return nil
	}
	return a.meter
}

// reset forgets the agent of a connection that has ended.
func (a *agent) reset() {
	a.mu.Lock()
	host := a.host
	a.host, a.refused, a.loaded = nil, "", nil
	a.mu.Unlock()
	if host != nil {
		host.Close()
	}
}

// use makes sure that the module is loaded. errNoAgent means: use plain calls.
func (a *agent) use(ctx context.Context, n *node.Node, link *node.Peer) error {
	for {
		a.mu.Lock()
		switch {
		case a.leaving:
			a.mu.Unlock()
			return fmt.Errorf("load the helper module into %s: %w", link.Name(), ErrNotAttached)
		case a.host != nil && a.host.Len() > 0: // its keeper has ended
			host := a.host
			a.host, a.loaded = nil, nil
			a.mu.Unlock()
			host.Close()
			continue
		case a.host != nil:
			a.mu.Unlock()
			return nil
		case a.refused != "":
			a.mu.Unlock()
			return errNoAgent
		case a.loading == nil:
			done := make(chan struct{})
			a.loading = done
			a.mu.Unlock()
			err := a.load(ctx, n, link)
			a.mu.Lock()
			a.loading = nil
			a.mu.Unlock()
			close(done)
			return err
		}
		wait := a.loading
		a.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loadTries is how often loading is tried when another debughost comes or goes
// at the same moment.
const loadTries = 5

// load loads the module, unless another debughost has, and ties it to a new
// inbox in one step that runs on the target, so that our death in between
// cannot leave the module behind.
func (a *agent) load(ctx context.Context, n *node.Node, link *node.Peer) error {
	host := n.NewMailbox(16)
	var err error
	for range loadTries {
		var reply etf.Term
		reply, err = a.cost.call(ctx, link, "erl_eval", "expr", loadForm(), loadBindings(host.Pid()))
		if keeper, count, ok := loadedKeeper(reply); err == nil && ok {
			if _, err := host.Monitor(keeper); err != nil {
				host.Close()
				return err
			}
			a.mu.Lock()
			a.host, a.keeper, a.meter = host, keeper, &meter{term: count}
			a.mu.Unlock()
			return nil
		}
		var remote *node.CallError
		switch {
		case err == nil:
			err = fmt.Errorf("the target answered %s", printed(reply))
		case !errors.As(err, &remote):
			host.Close()
			return err // no answer, or no connection: says nothing about loading
		}
	}
	host.Close()
	a.mu.Lock()
	a.refused = err.Error()
	a.mu.Unlock()
	return errNoAgent
}

// unload removes the module unless another debughost uses it. It returns when
// the target has done so, or ctx ends.
func (a *agent) unload(ctx context.Context, link *node.Peer) {
	a.mu.Lock()
	host, keeper := a.host, a.keeper
	a.host, a.loaded, a.leaving = nil, nil, true
	a.mu.Unlock()
	if host == nil {
		return
	}
	defer host.Close()
	if _, err := a.cost.call(ctx, link, agentModule, "detach", host.Pid()); err != nil {
		return
	}
	// Another debughost may keep the keeper alive: ask, rather than wait for
	// an end that may not come.
	for ctx.Err() == nil {
		wctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		msg, err := host.Receive(wctx)
		cancel()
		if err == nil && msg.Kind == node.Down {
			// It left, or somebody had killed it, and then the module is there.
			a.sweep(ctx, link, host)
			return
		}
		if ctx.Err() == nil && wctx.Err() != nil && a.shared(ctx, link, keeper, host.Pid()) {
			return
		}
	}
}

// sweep has the module removed by a process of its own, which goes on when ctx ends:
// a call would be killed half way, and nobody would come back for the rest.
func (a *agent) sweep(ctx context.Context, link *node.Peer, host *node.Mailbox) {
	if _, err := link.Spawn(ctx, agentModule, "sweep", nil, node.SpawnOptions{Mailbox: host, Monitor: true}); err == nil {
		_, _ = host.Receive(ctx)
	}
}

// stay lets the module be loaded again, on the next connection.
func (a *agent) stay() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving = false
}

// shared tells whether the keeper stays although it does not monitor host any more.
// One that is leaving says so.
func (a *agent) shared(ctx context.Context, link *node.Peer, keeper, host etf.Pid) bool {
	info, err := a.cost.call(ctx, link, "erlang", "process_info", keeper, etf.List{etf.Atom("dictionary"), etf.Atom("monitors")})
	if err != nil {
		return true
	}
	facts, ok := tupleRows(info, 2)
	if !ok || len(facts) != 2 || leaving(facts[0][1]) {
		return false // it has ended, or is about to: its DOWN is on its way
	}
	items, _ := etf.Elements(facts[1][1])
	for _, item := range items {
		if m, ok := item.(etf.Tuple); ok && len(m) == 2 && m[1] == etf.Term(host) {
			return false
		}
	}
	return true
}

// leaving tells whether the keeper's dictionary says that it is.
func leaving(dictionary etf.Term) bool {
	entries, _ := tupleRows(dictionary, 2)
	return slices.ContainsFunc(entries, func(e etf.Tuple) bool { return atom(e[0]) == "leaving" })
}

// loadForm is the abstract form of
//
//	case erlang:module_loaded(M) orelse code:load_binary(M, F, B) of
//	    true -> M:attach(H);
//	    {module, _} -> M:attach(H);
//	    E -> E
//	end
//
// which erl_eval, part of every node, runs there.
func loadForm() etf.Term {
	ln := etf.Int(1)
	atom := func(a etf.Atom) etf.Term { return etf.Tuple{etf.Atom("atom"), ln, a} }
	v := func(a etf.Atom) etf.Term { return etf.Tuple{etf.Atom("var"), ln, a} }
	call := func(m, f etf.Term, args ...etf.Term) etf.Term {
		return etf.Tuple{etf.Atom("call"), ln, etf.Tuple{etf.Atom("remote"), ln, m, f}, etf.List(args)}
	}
	clause := func(pattern, body etf.Term) etf.Term {
		return etf.Tuple{etf.Atom("clause"), ln, etf.List{pattern}, etf.List{}, etf.List{body}}
	}
	there := call(atom("erlang"), atom("module_loaded"), v("M"))
	load := call(atom("code"), atom("load_binary"), v("M"), v("F"), v("B"))
	attach := call(v("M"), atom("attach"), v("H"))
	return etf.Tuple{etf.Atom("case"), ln, etf.Tuple{etf.Atom("op"), ln, etf.Atom("orelse"), there, load}, etf.List{
		clause(atom("true"), attach),
		clause(etf.Tuple{etf.Atom("tuple"), ln, etf.List{atom("module"), v("_")}}, attach),
		clause(v("E"), v("E")),
	}}
}

func loadBindings(host etf.Pid) etf.Term {
	return etf.Map{
		{Key: etf.Atom("M"), Value: etf.Atom(agentModule)},
		{Key: etf.Atom("F"), Value: etf.String(agentModule + ".erl")},
		{Key: etf.Atom("B"), Value: etf.Binary(agentBeam)},
		{Key: etf.Atom("H"), Value: host},
	}
}

// loadedKeeper reads {value, {ok, Keeper, Meter}, Bindings}. The meter is a term of
// the target's own making, which has a meaning there alone.
func loadedKeeper(reply etf.Term) (keeper etf.Pid, meter etf.Term, ok bool) {
	t, ok := reply.(etf.Tuple)
	if !ok || len(t) != 3 {
		return keeper, nil, false
	}
	r, ok := t[1].(etf.Tuple)
	if !ok || len(r) != 3 || atom(r[0]) != "ok" {
		return keeper, nil, false
	}
	keeper, ok = r[1].(etf.Pid)
	return keeper, r[2], ok
}
