package badplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// serveSandbox serves a sandbox strategy that its mode spoils.
func serveSandbox(name, mode string) {
	s := &snapshots{Sandbox: &Sandbox{Name: name, Dir: os.Getenv("TMPDIR"), mode: mode}}
	switch mode {
	case "snapshot":
		sdk.Serve(s)
	case "reload", "operate":
		sdk.Serve(Changing(s.Sandbox))
	default:
		sdk.Serve(s.Sandbox)
	}
}

// Sandbox is a sandbox strategy that runs nothing: a sandbox of it is a file,
// so that it outlives the process, and it ends when its file says so. That is
// enough to keep to the contract, or not to.
type Sandbox struct {
	Name string
	// Dir holds the files; empty is the system's directory for such.
	Dir   string
	mode  string
	state string // directory, as the host tells it

	mu    sync.Mutex
	boxes map[string]*fakeBox
}

type fakeBox struct {
	file   string
	bundle string // what its bundle holds
	pid    int    // of a process that is there to be looked for, in some modes
	exited chan struct{}
	exit   sdk.SandboxExit
}

var (
	_ sdk.Sandbox     = (*Sandbox)(nil)
	_ sdk.Snapshotter = (*snapshots)(nil)
)

// Describe implements sdk.Strategy.
func (s *Sandbox) Describe() sdk.Info { return sdk.Info{Name: s.Name, Version: "0.0.1"} }

func (s *Sandbox) add(id, file string) (*fakeBox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boxes == nil {
		s.boxes = make(map[string]*fakeBox)
	}
	if s.boxes[id] != nil && s.mode != "twice" {
		return nil, fmt.Errorf("create %s: %w", id, sdk.ErrExists)
	}
	b := &fakeBox{file: file, exited: make(chan struct{})}
	s.boxes[id] = b
	return b, nil
}

func (s *Sandbox) get(id string) (*fakeBox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[id]; b != nil {
		return b, nil
	}
	if s.mode == "amnesia" {
		return &fakeBox{exited: make(chan struct{})}, nil
	}
	return nil, fmt.Errorf("find sandbox %s: %w", id, sdk.ErrNotFound)
}

// Configured implements sdk.Configured.
func (s *Sandbox) Configured(ctx context.Context) error {
	s.state, _ = sdk.StateDirFrom(ctx)
	return nil
}

// wishes are what a sandbox can be told to do.
type wishes struct {
	Fail bool `json:"fail"` // not to be created
	Over bool `json:"over"` // to go over a limit
}

// Create implements sdk.Sandbox.
func (s *Sandbox) Create(_ context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	var w wishes
	if err := sdk.DecodeConfig(spec.Config, &w); err != nil {
		return sdk.SandboxHandle{}, err
	}
	if w.Fail && s.mode != "halfborn" {
		return sdk.SandboxHandle{}, fmt.Errorf("create %s: as was wished", spec.ID)
	}
	f, err := os.CreateTemp(s.Dir, "sandbox")
	if err != nil {
		return sdk.SandboxHandle{}, err
	}
	_ = f.Close()
	bundle, err := content(spec)
	if err != nil {
		_ = os.Remove(f.Name())
		return sdk.SandboxHandle{}, err
	}
	b, err := s.add(spec.ID, f.Name())
	if err != nil {
		_ = os.Remove(f.Name())
		return sdk.SandboxHandle{}, err
	}
	b.bundle = bundle
	switch {
	case w.Fail:
		return sdk.SandboxHandle{}, fmt.Errorf("create %s: as was wished", spec.ID)
	case w.Over:
		b.exit = sdk.SandboxExit{Signal: 9, Reason: "wishes to be over its limit", At: time.Now()}
		if s.mode == "speechless" {
			b.exit.Reason = ""
		}
		close(b.exited)
	}
	switch s.mode {
	case "litter":
		_ = os.WriteFile(filepath.Join(s.state, "of "+spec.ID), nil, 0o600)
	case "immortal", "unnoticed":
		if err := b.run(); err != nil {
			return sdk.SandboxHandle{}, err
		}
	}
	return sdk.SandboxHandle{ID: spec.ID, State: []byte(f.Name())}, nil
}

// run starts a process that nobody looks after, and which ends in a while.
func (b *fakeBox) run() error {
	cmd := exec.Command("sleep", "15")
	if err := cmd.Start(); err != nil {
		return err
	}
	b.pid = cmd.Process.Pid
	go func() { _ = cmd.Wait() }()
	return nil
}

// Inspect implements sdk.Sandbox.
func (s *Sandbox) Inspect(_ context.Context, id string) (sdk.SandboxStatus, error) {
	b, err := s.get(id)
	if err != nil {
		return sdk.SandboxStatus{}, err
	}
	st := sdk.SandboxStatus{ID: id, State: sdk.SandboxRunning, Node: id + "@localhost", Started: time.Now(), OSPid: b.pid, Enforced: map[string]string{"wish": "at once"}}
	select {
	case <-b.exited:
		st.State, st.Exit = sdk.SandboxExited, &b.exit
	default:
	}
	return st, nil
}

// Wait implements sdk.Sandbox.
func (s *Sandbox) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	b, err := s.get(id)
	if err != nil || s.mode == "wait" {
		return sdk.SandboxExit{}, err
	}
	select {
	case <-b.exited:
		return b.exit, nil
	case <-ctx.Done():
		return sdk.SandboxExit{}, ctx.Err()
	}
}

// Stop implements sdk.Sandbox.
func (s *Sandbox) Stop(_ context.Context, id string, _ time.Duration) error {
	b, err := s.get(id)
	if err != nil || s.mode == "stop" {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-b.exited:
	default:
		b.exit = sdk.SandboxExit{Signal: 15, At: time.Now()}
		close(b.exited)
	}
	return nil
}

// Destroy implements sdk.Sandbox.
func (s *Sandbox) Destroy(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[id]; b != nil && s.mode != "leak" {
		delete(s.boxes, id)
		if p, err := os.FindProcess(b.pid); b.pid > 0 && err == nil {
			_ = p.Kill()
		}
		return os.Remove(b.file)
	}
	return nil
}

// Recover implements sdk.Sandbox.
func (s *Sandbox) Recover(_ context.Context, h sdk.SandboxHandle) error {
	if _, err := os.Stat(string(h.State)); err != nil || s.mode == "forget" {
		return fmt.Errorf("recover %s: %w", h.ID, sdk.ErrNotFound)
	}
	_, err := s.add(h.ID, string(h.State))
	return err
}

// Logs implements sdk.Sandbox.
func (s *Sandbox) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	if _, err := s.get(id); err != nil {
		return err
	}
	line := sdk.LogLine{Time: time.Now(), Stream: "stdout", Line: []byte("hello from " + id)}
	if s.mode == "logs" {
		line = sdk.LogLine{Line: []byte("two\nlines")}
	}
	if err := emit(line); err != nil || !o.Follow {
		return err
	}
	return hold(ctx)
}

// snapshots is a Sandbox whose snapshots restore nothing, or, in no bad mode,
// the name of what they were taken of.
type snapshots struct{ *Sandbox }

// Moving is the good strategy with snapshots.
func Moving(s *Sandbox) interface {
	sdk.Strategy
	sdk.Snapshotter
} {
	return &snapshots{s}
}

func (s *snapshots) Snapshot(_ context.Context, id string, w io.Writer) error {
	if _, err := s.get(id); err != nil {
		return err
	}
	_, err := io.WriteString(w, "snapshot of "+id)
	return err
}

func (s *snapshots) Restore(ctx context.Context, spec sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	state, err := io.ReadAll(r)
	switch {
	case err != nil:
		return sdk.SandboxHandle{}, err
	case len(state) == 0:
		return sdk.SandboxHandle{}, errors.New("restore sandbox: the snapshot is empty")
	case s.mode == "snapshot":
		return sdk.SandboxHandle{ID: spec.ID}, nil
	}
	return s.Create(ctx, spec)
}

// changes are snapshots, and a Sandbox that takes another bundle while it runs and
// tells what it has.
type changes struct{ *snapshots }

var (
	_ sdk.Reloader = (*changes)(nil)
	_ sdk.Operator = (*changes)(nil)
)

// Changing is the good strategy with all that a strategy may have. Its bundles are
// any files, and a reload with one that says "bad" fails. Its operation "bundle" tells
// what the bundle holds as {"bundle": …}, and "echo" its own input.
func Changing(s *Sandbox) interface {
	sdk.Strategy
	sdk.Snapshotter
	sdk.Reloader
	sdk.Operator
} {
	return &changes{&snapshots{s}}
}

func content(spec sdk.SandboxSpec) (string, error) {
	if spec.Bundle == "" {
		return "", nil
	}
	b, err := os.ReadFile(spec.Bundle)
	return string(b), err
}

func (c *changes) Reload(_ context.Context, spec sdk.SandboxSpec) ([]byte, error) {
	b, err := c.get(spec.ID)
	if c.mode == "reload" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := content(spec)
	if err == nil && text == "bad" {
		err = errors.New("reload sandbox: the bundle is bad")
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	report, err := json.Marshal(map[string]string{"was": b.bundle})
	b.bundle = text
	return report, err
}

func (c *changes) Operate(_ context.Context, id, operation string, input []byte) ([]byte, error) {
	b, err := c.get(id)
	switch {
	case err != nil:
		return nil, err
	case operation == "echo" || c.mode == "operate":
		return input, nil
	case operation == "bundle":
		c.mu.Lock()
		defer c.mu.Unlock()
		return json.Marshal(map[string]string{"bundle": b.bundle})
	}
	return nil, fmt.Errorf("operate %s: %.100q: %w", id, operation, sdk.ErrUnsupported)
}
