// Command sandbox-node is a sandbox strategy whose sandboxes are nodes that a test
// has started already.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// config says where the node is. The run is over when the file gone is there.
type config struct {
	Node   string `json:"node"`
	Addr   string `json:"addr"`
	Cookie string `json:"cookie"`
	Gone   string `json:"gone"`
}

type nodes struct {
	mu    sync.Mutex
	known map[string]config
}

func (n *nodes) Describe() sdk.Info { return sdk.Info{Name: "sandbox-node", Version: "1.0.0"} }

func (n *nodes) find(id string) (config, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.known[id]
	if !ok {
		return c, fmt.Errorf("find %s: %w", id, sdk.ErrNotFound)
	}
	return c, nil
}

func (n *nodes) Create(_ context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	var c config
	if err := sdk.DecodeConfig(spec.Config, &c); err != nil {
		return sdk.SandboxHandle{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[spec.ID] = c
	return sdk.SandboxHandle{ID: spec.ID, State: spec.Config}, nil
}

func (n *nodes) Recover(ctx context.Context, h sdk.SandboxHandle) error {
	_, err := n.Create(ctx, sdk.SandboxSpec{ID: h.ID, Config: h.State})
	return err
}

func (c config) over() bool { _, err := os.Stat(c.Gone); return err == nil }

func (n *nodes) Inspect(_ context.Context, id string) (sdk.SandboxStatus, error) {
	c, err := n.find(id)
	st := sdk.SandboxStatus{ID: id, State: sdk.SandboxRunning, Node: c.Node, Addr: c.Addr, CookieFile: c.Cookie}
	if err == nil && c.over() {
		st = sdk.SandboxStatus{ID: id, State: sdk.SandboxExited, Exit: &sdk.SandboxExit{At: time.Now()}}
	}
	return st, err
}

func (n *nodes) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	for {
		c, err := n.find(id)
		if err != nil || c.over() {
			return sdk.SandboxExit{At: time.Now()}, err
		}
		select {
		case <-ctx.Done():
			return sdk.SandboxExit{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *nodes) Stop(_ context.Context, id string, _ time.Duration) error {
	c, err := n.find(id)
	if err != nil {
		return err
	}
	return os.WriteFile(c.Gone, nil, 0o600)
}

func (n *nodes) Destroy(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, id)
	return nil
}

func (n *nodes) Logs(_ context.Context, id string, _ sdk.LogOptions, _ func(sdk.LogLine) error) error {
	_, err := n.find(id)
	return err
}

func main() { sdk.Serve(&nodes{known: map[string]config{}}) }
