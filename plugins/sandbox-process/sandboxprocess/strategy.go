//go:build unix

// Package sandboxprocess is the strategy sandbox-process: a sandbox of it is a
// command of the operating system with all that it starts, in a directory of its
// own, with a clean environment, limits, and a log.
//
// It is the simplest sandbox strategy that holds what debughost promises of
// sandboxes. Its work is done by a keeper, a process that outlives this one; see
// package keeper. What is here translates: configs into specs, and what the
// keeper knows into what the contract asks for. Unless its config says
// so it does not shut a command in: that can do what the user can that debughost runs as.
package sandboxprocess

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "sandbox-process"

// Config is the plugin's section.
type Config struct {
	Path       string   `json:"path" doc:"PATH of the commands; empty means that of debughost"`
	LogSize    int64    `json:"log_size" min:"262144" max:"1099511627776" doc:"bytes of a sandbox's log that are kept on disk"`
	LogRate    int64    `json:"log_rate" min:"1024" max:"1073741824" doc:"bytes of output a second that a sandbox may log for long; in short four times as much, and what is more is dropped and counted"`
	Cgroups    string   `json:"cgroups" enum:"auto,off" doc:"whether to use cgroup v2, where that is possible"`
	Namespaces string   `json:"namespaces" enum:"auto,off" doc:"whether sandboxes run in a PID namespace, where that is possible"`
	View       string   `json:"view" enum:"auto,off,required" doc:"whether commands see the system and their own directory alone: where that is possible, never, or else they do not start"`
	Show       []string `json:"show" doc:"absolute paths that they see beside, and cannot write to"`
}

// Command is the config of one sandbox.
type Command struct {
	Command    []string          `json:"command" required:"true" min:"1" doc:"the program, as a path or as a name in PATH, and its arguments"`
	Env        map[string]string `json:"env" doc:"environment variables beside PATH, HOME, TMPDIR, LANG and DEBUGHOST_CHILD"`
	Dir        string            `json:"dir" doc:"working directory; empty means a directory of its own, which is removed with the sandbox"`
	StopSignal string            `json:"stop_signal" doc:"signal that asks it to end"`
}

// Strategy implements sdk.Sandbox.
type Strategy struct {
	version string
	config  Config
	keeper  *keeper.Client // set by Configured
}

var (
	_ sdk.Sandbox    = (*Strategy)(nil)
	_ sdk.Configured = (*Strategy)(nil)
)

// New returns the strategy with its defaults.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{
		LogSize: keeper.DefaultLogSize, LogRate: keeper.DefaultLogRate, Cgroups: "auto", Namespaces: "auto", View: keeper.ViewOff,
	}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// Configured makes the client of the keeper, and clears up if a keeper was
// killed with its plugin and nobody came after.
func (s *Strategy) Configured(ctx context.Context) error {
	for _, path := range s.config.Show {
		if !filepath.IsAbs(path) {
			return sdk.Invalid("show", "want absolute paths")
		}
	}
	dir, err := keeper.StateDir(ctx, Name)
	if err != nil {
		return err
	}
	s.keeper = keeper.Open(ctx, keeper.Options{
		Dir: dir, Path: s.config.Path, NoCgroup: s.config.Cgroups == "off", NoNamespace: s.config.Namespaces == "off",
	})
	return nil
}

// Close ends the connection to the keeper. Sandboxes go on for as long as they
// may.
func (s *Strategy) Close() error {
	if s.keeper == nil {
		return nil
	}
	return s.keeper.Close()
}

// handle is what the host keeps.
type handle struct {
	Token string `json:"token"`
}

// Create implements sdk.Sandbox.
func (s *Strategy) Create(ctx context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	k, err := s.spec(spec)
	if err != nil {
		return sdk.SandboxHandle{}, fmt.Errorf("create %.140s: %w", spec.ID, err)
	}
	token, err := s.keeper.Create(ctx, k)
	if err != nil {
		return sdk.SandboxHandle{}, err
	}
	state, err := json.Marshal(handle{token})
	return sdk.SandboxHandle{ID: spec.ID, State: state}, err
}

// spec is what the keeper is to do.
func (s *Strategy) spec(spec sdk.SandboxSpec) (keeper.Spec, error) {
	c := Command{StopSignal: "SIGTERM"}
	if err := sdk.DecodeConfig(spec.Config, &c); err != nil {
		return keeper.Spec{}, err
	}
	signal, ok := keeper.ParseSignal(c.StopSignal)
	if !ok {
		return keeper.Spec{}, sdk.Invalid("stop_signal", fmt.Sprintf("there is no signal %q", c.StopSignal))
	}
	if c.Dir != "" && !filepath.IsAbs(c.Dir) {
		return keeper.Spec{}, sdk.Invalid("dir", "want an absolute path: the member that runs it may be any")
	}
	k := keeper.Spec{
		ID: spec.ID, Command: c.Command, Dir: c.Dir, StopSignal: signal, Limits: spec.Limits, Orphan: spec.Orphan,
		LogSize: s.config.LogSize, LogRate: s.config.LogRate, View: keeper.NewView(s.config.View, s.config.Show),
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		k.Env = append(k.Env, name+"="+c.Env[name])
	}
	return k, nil
}

// Inspect implements sdk.Sandbox.
func (s *Strategy) Inspect(ctx context.Context, id string) (sdk.SandboxStatus, error) {
	st, err := s.keeper.Inspect(ctx, id)
	if err != nil {
		return sdk.SandboxStatus{}, err
	}
	return sdk.SandboxStatus{
		ID: id, State: st.State, OSPid: st.OSPid, Started: st.Started, Exit: st.Exit, Memory: st.Memory, Enforced: st.Enforced,
	}, nil
}

// Wait implements sdk.Sandbox.
func (s *Strategy) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	return s.keeper.Wait(ctx, id)
}

// Stop implements sdk.Sandbox.
func (s *Strategy) Stop(ctx context.Context, id string, timeout time.Duration) error {
	return s.keeper.Stop(ctx, id, timeout)
}

// Destroy implements sdk.Sandbox.
func (s *Strategy) Destroy(ctx context.Context, id string) error {
	return s.keeper.Destroy(ctx, id)
}

// Recover implements sdk.Sandbox.
func (s *Strategy) Recover(ctx context.Context, h sdk.SandboxHandle) error {
	var state handle
	if err := json.Unmarshal(h.State, &state); err != nil {
		return fmt.Errorf("recover %.140s: %w: its handle is none of this plugin's", h.ID, sdk.ErrNotFound)
	}
	return s.keeper.Recover(ctx, h.ID, state.Token)
}

// Logs implements sdk.Sandbox.
func (s *Strategy) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	return s.keeper.Logs(ctx, id, o, emit)
}
