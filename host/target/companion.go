package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// companion is a module for one kind of questions, which is loaded into a target
// beside the agent when it is first needed, and leaves with it.
type companion struct {
	module string
	beam   []byte
}

// newCompanion names the module as agent/build.sh does.
func newCompanion(short string, source, beam []byte) *companion {
	sum := sha256.Sum256(source)
	return &companion{agentModule + "_" + short + "_" + hex.EncodeToString(sum[:])[:8], beam}
}

// companionCall calls a function of a companion, and loads that and the agent
// where they are not there. errNoAgent means: use plain calls.
func (t *target) companionCall(ctx context.Context, link *node.Peer, c *companion, function string, args ...etf.Term) (etf.Term, error) {
	for tries := 0; ; tries++ {
		if err := t.extend(ctx, link, c); err != nil {
			return nil, err
		}
		reply, err := t.helperCall(ctx, link, c.module, function, args...)
		if err == nil || tries == 2 || !t.agentGone(ctx, link, c.module, err) {
			return reply, err
		}
		t.agent.reset()
	}
}

// extend loads a companion, once for each connection.
func (t *target) extend(ctx context.Context, link *node.Peer, c *companion) error {
	if t.agent.has(c.module) {
		return nil
	}
	reply, err := t.agentCall(ctx, link, "extend", etf.Atom(c.module), etf.Binary(c.beam))
	if err != nil {
		return err
	}
	if atom(reply) != "ok" {
		return fmt.Errorf("load helper module %s into %s: %s", c.module, link.Name(), printed(reply))
	}
	t.agent.extended(c.module)
	return nil
}

// has tells whether a companion is loaded, as far as we know.
func (a *agent) has(module string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.host != nil && a.host.Len() == 0 && a.loaded[module]
}

func (a *agent) extended(module string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.host == nil {
		return // it has left again
	}
	if a.loaded == nil {
		a.loaded = map[string]bool{}
	}
	a.loaded[module] = true
}
