package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest/badplugin"
	"github.com/debughost/debughost/test/rig"
)

// notesPlugin is the name by which this program is a plugin.
const notesPlugin = "sandbox-notes"

// notes is a sandbox strategy whose sandboxes have a state: how they were begun, and
// each restore since. It is told in the log.
type notes struct {
	moving
	base *badplugin.Sandbox

	mu   sync.Mutex
	text map[string]string
}

type moving interface {
	sdk.Strategy
	sdk.Snapshotter
}

var _ sdk.Configured = (*notes)(nil)

func serveNotes() {
	base := &badplugin.Sandbox{Name: notesPlugin}
	sdk.Serve(&notes{moving: badplugin.Moving(base), base: base, text: map[string]string{}})
}

// notesPadding is what a snapshot has before the text: more than fits into a message
// between members.
const notesPadding = 20 << 20

func (n *notes) Configured(ctx context.Context) error {
	n.base.Dir, _ = sdk.StateDirFrom(ctx)
	return nil
}

func (n *notes) begin(ctx context.Context, spec sdk.SandboxSpec, text string) (sdk.SandboxHandle, error) {
	var c struct {
		Immovable bool `json:"immovable"`
	}
	if err := sdk.DecodeConfig(spec.Config, &c); err != nil {
		return sdk.SandboxHandle{}, err
	}
	if c.Immovable && strings.Contains(text, "restored") {
		return sdk.SandboxHandle{}, errors.New("its state does not fit this machine")
	}
	spec.Config = []byte("{}")
	h, err := n.moving.Create(ctx, spec)
	if err == nil {
		n.mu.Lock()
		n.text[spec.ID] = text
		n.mu.Unlock()
	}
	return h, err
}

func (n *notes) Create(ctx context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	return n.begin(ctx, spec, "begun")
}

func (n *notes) Snapshot(_ context.Context, id string, w io.Writer) error {
	n.mu.Lock()
	text, ok := n.text[id]
	n.mu.Unlock()
	if !ok {
		return fmt.Errorf("snapshot %s: %w", id, sdk.ErrNotFound)
	}
	if _, err := w.Write(make([]byte, notesPadding)); err != nil {
		return err
	}
	_, err := io.WriteString(w, text)
	return err
}

func (n *notes) Restore(ctx context.Context, spec sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	state, err := io.ReadAll(r)
	if err != nil {
		return sdk.SandboxHandle{}, err
	}
	if len(state) < notesPadding {
		return sdk.SandboxHandle{}, fmt.Errorf("the state has %d bytes", len(state))
	}
	return n.begin(ctx, spec, string(state[notesPadding:])+", restored")
}

func (n *notes) Logs(_ context.Context, id string, _ sdk.LogOptions, emit func(sdk.LogLine) error) error {
	n.mu.Lock()
	text, ok := n.text[id]
	n.mu.Unlock()
	if !ok {
		return fmt.Errorf("read log of %s: %w", id, sdk.ErrNotFound)
	}
	return emit(sdk.LogLine{Time: time.Now(), Stream: "stdout", Line: []byte(text)})
}

// at awaits that members agree that a child runs on one of them, with a state.
func (c *crew) at(t *testing.T, id, member, state string) {
	t.Helper()
	c.members[0].Eventually(t, func() error {
		for _, p := range c.running() {
			got, err := p.children()
			if err != nil {
				return err
			}
			if got[id].State != "running" || got[id].Member != member {
				return fmt.Errorf("%s says %+v", p.name, got[id])
			}
			if out, _, err := p.Try("child", "logs", id); err != nil || strings.TrimSpace(out) != state {
				return fmt.Errorf("%s: the state of %s is %q, want %q: %w", p.name, id, out, state, err)
			}
		}
		return nil
	})
}

// TestHandoff moves children with their state between members, by a plugin that can
// do that, and through what can go wrong.
func TestHandoff(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(rig.Bin, notesPlugin)
	require.NoError(t, os.Symlink(self, link))
	t.Cleanup(func() { require.NoError(t, os.Remove(link)) })
	l := newLab(t, "a", "b", "c")
	c := newCrew(t, l)
	for i, name := range []string{"a", "b", "c"} {
		c.start(name, l.machines[i], nil)
	}
	all := map[string]string{"a": "alive", "b": "alive", "c": "alive"}
	for _, p := range c.members {
		p.awaitStates(t, all)
	}
	a, b := c.members[0], c.members[1]
	spec := func(id, config string) string {
		path := filepath.Join(c.home, id+".toml")
		require.NoError(t, os.WriteFile(path, []byte(fmt.Sprintf("id = %q\nstrategy = \"notes\"\nhandoff = \"snapshot\"\n[config]\n%s\n", id, config)), 0o600))
		return path
	}
	home := func(id string) (at, other *member) {
		rows, err := a.children()
		require.NoError(t, err)
		for i, p := range c.members {
			if p.name == rows[id].Member {
				return p, c.members[(i+1)%3]
			}
		}
		t.Fatalf("%s is nowhere", id)
		return nil, nil
	}

	a.Exit(t, 0, "child", "start", "-f", spec("web", ""), "--wait", "20s")
	at, to := home("web")
	c.at(t, "web", at.name, "begun")
	a.Exit(t, 0, "child", "move", "web", to.name, "--wait", "20s")
	c.at(t, "web", to.name, "begun, restored")
	b.Exit(t, 0, "drain", to.name) // which waits until it is empty
	at, _ = home("web")
	require.NotEqual(t, to.name, at.name)
	c.at(t, "web", at.name, "begun, restored, restored")
	b.Exit(t, 0, "drain", to.name, "--undo")

	_, stderr, err := a.Try("--data-dir", a.Dir, "child", "start", "plain", "--handoff", "snapshot", "--", "sleep", "9")
	require.Error(t, err)
	require.Contains(t, stderr, "sandbox strategy process takes no snapshots")

	// What cannot be moved goes on, with what it had.
	b.Exit(t, 0, "child", "start", "-f", spec("stuck", "immovable = true"), "--wait", "20s")
	at, to = home("stuck")
	_, stderr = b.Exit(t, 1, "child", "move", "stuck", to.name, "--wait", "20s")
	require.Contains(t, stderr, "move child stuck: it goes on where it was: the move to member "+to.name+" failed:")
	require.Contains(t, stderr, "its state does not fit this machine")
	c.at(t, "stuck", at.name, "begun")
	for _, p := range c.members {
		out, _ := p.Exit(t, 0, "child", "show", "stuck")
		require.Contains(t, out, "its state does not fit this machine", p.name)
	}

	// The new member stands still in the middle, and is killed: the old run goes on.
	at, to = home("web")
	other := a
	if to == a {
		other = at
	}
	before, _, err := other.Try("child", "logs", "web")
	require.NoError(t, err)
	require.NoError(t, to.Cmd.Process.Signal(syscall.SIGSTOP))
	_, _, err = at.Try("child", "move", "web", to.name)
	if err != nil {
		t.Logf("the move was refused: %v", err) // the one that stands still decides, or is not seen any more
	}
	to.Kill()
	for _, p := range c.running() {
		p.awaitStates(t, map[string]string{to.name: "dead"})
	}
	c.members = c.running()
	c.at(t, "web", at.name, strings.TrimSpace(before))
}
