//go:build unix

// Package sandboxbeam is the strategy sandbox-beam: a sandbox of it is a BEAM node
// with a script, a module, a project, a release or the modules of another node in it,
// in a directory of its own, which is a target while it runs.
//
// Its processes are a keeper's, as those of sandbox-process are (package keeper):
// limits, logs and what is done when plugin or host are gone are the same. What is
// compiled is compiled by a keeper's command, too, and kept by what it was made of
// (build.go). The node has a name and a cookie of its own, listens on loopback, and
// is known to no EPMD (boot/debughost_sandbox.erl).
//
// Its code is shut in where the system allows that (view.go): it sees the system's
// programs and its own directory, and the compiler has no network. The source is a
// bundle that comes with the spec (bundle.go), or a path of the member that runs the
// sandbox. Its code is changed while it runs (reload.go), and the states of its
// processes go along when it moves (snapshot.go).
package sandboxbeam

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "sandbox-beam"

// Config is the plugin's section.
type Config struct {
	OTP        map[string]string `json:"otp" doc:"directories with erl, erlc and, for Elixir, elixir and mix, by the name that a sandbox calls them by"`
	Path       string            `json:"path" doc:"PATH of the nodes and of the compiler, and where erl is looked for when a sandbox names none of otp; empty means that of debughost"`
	CacheSize  int64             `json:"cache_size" min:"0" max:"1099511627776" doc:"bytes of what was compiled that are kept for the next sandbox"`
	LogSize    int64             `json:"log_size" min:"262144" max:"1099511627776" doc:"bytes of a sandbox's log that are kept on disk"`
	LogRate    int64             `json:"log_rate" min:"1024" max:"1073741824" doc:"bytes of output a second that a sandbox may log for long; in short four times as much, and what is more is dropped and counted"`
	Cgroups    string            `json:"cgroups" enum:"auto,off" doc:"whether to use cgroup v2, where that is possible"`
	Namespaces string            `json:"namespaces" enum:"auto,off" doc:"whether sandboxes run in a PID namespace, where that is possible"`
	View       string            `json:"view" enum:"auto,off,required" doc:"whether nodes and compilers see the system and their own directory alone: where that is possible, never, or else they do not start"`
	Show       []string          `json:"show" doc:"absolute paths that they see beside, and cannot write to"`
}

// Node is the config of one sandbox.
type Node struct {
	Source         string            `json:"source" doc:"absolute path, or with a bundle a path in it, of a script (.exs), of a module (.erl), or of the directory of a Mix project, a rebar3 project, a release, or of modules (lib/APP/ebin); empty means the bundle, or a node without code of yours"`
	Start          string            `json:"start" doc:"expression that is evaluated once the rest is up: Elixir, or Erlang where there is no Elixir or the source is a module"`
	OTP            string            `json:"otp" doc:"name of the section's otp to run on; empty means the erl in path"`
	Apps           []string          `json:"apps" doc:"applications to start before, beside those of the project"`
	Args           []string          `json:"args" doc:"further arguments of erl"`
	Env            map[string]string `json:"env" doc:"environment variables of the node and of the compiler, such as MIX_ENV"`
	State          []string          `json:"state" doc:"names of processes whose state a snapshot takes along, as Shop.Stock or shop_stock"`
	StateModule    string            `json:"state_module" doc:"module whose snapshot/0 makes a term that a snapshot takes along, and whose restore/1 is called with it"`
	Network        bool              `json:"network" doc:"whether the compiler may use the network"`
	CompileTimeout time.Duration     `json:"compile_timeout" min:"1s" max:"1h" doc:"after which a compiler that still runs is stopped"`
}

// defaultNode is what a sandbox's config is read over.
func defaultNode() Node { return Node{CompileTimeout: 5 * time.Minute} }

// Strategy implements sdk.Sandbox.
type Strategy struct {
	version  string
	config   Config
	linger   time.Duration // of what nobody waits for
	patience time.Duration // of a script that only waits, after which it is taken for a program

	dir     string   // absolute; set by Configured, as what follows
	staging *os.File // under a lock: this process is at work in there
	nodes   *keeper.Client
	builds  *keeper.Client
	self    *node.Node      // that calls into the sandboxes' nodes
	selfEnd chan error      // its end
	ctx     context.Context // of compilers, which several may wait for
	cancel  context.CancelFunc
	making  singleflight.Group
	jobs    map[string]*job // by hash
	cache   sync.RWMutex    // of the directories' names: who copies reads, who evicts writes
	mu      sync.Mutex
	systems map[string]*system // by directory of erl
	names   map[string]string  // of nodes, by sandbox; the node has no say in it
	warms   map[string]*warm   // compilers that stay, by sandbox
	changes map[string]bool    // sandboxes of which the code is being changed
}

var (
	_ sdk.Sandbox    = (*Strategy)(nil)
	_ sdk.Configured = (*Strategy)(nil)
	_ sdk.Operator   = (*Strategy)(nil)

	_ sdk.Reloader    = (*Strategy)(nil)
	_ sdk.Snapshotter = (*Strategy)(nil)
)

// New returns the strategy with its defaults.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, patience: patience, linger: linger, systems: map[string]*system{}, names: map[string]string{}, jobs: map[string]*job{}, warms: map[string]*warm{}, changes: map[string]bool{}, config: Config{
		CacheSize: 2 << 30, LogSize: keeper.DefaultLogSize, LogRate: keeper.DefaultLogRate, Cgroups: "auto", Namespaces: "auto", View: keeper.ViewAuto,
	}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// The directories in the state directory.
const (
	nodesDir   = "nodes"   // of the keeper of nodes
	buildsDir  = "builds"  // of the keeper of compilers
	cacheDir   = "cache"   // what was compiled, by the hash of what it was made of
	stagingDir = "staging" // what is about to become one of these
)

// Configured makes the clients of the keepers, and clears up what was left.
func (s *Strategy) Configured(ctx context.Context) error {
	for name, dir := range s.config.OTP {
		if !filepath.IsAbs(dir) {
			return sdk.Invalid("otp."+name, "want an absolute path")
		}
	}
	for _, path := range s.config.Show {
		if !filepath.IsAbs(path) {
			return sdk.Invalid("show", "want absolute paths")
		}
	}
	var err error
	if s.dir, err = keeper.StateDir(ctx, Name); err != nil {
		return err
	}
	if s.config.Path == "" {
		s.config.Path = os.Getenv("PATH")
	}
	for _, sub := range []string{nodesDir, buildsDir, cacheDir, stagingDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	if s.staging, err = sweep(filepath.Join(s.dir, stagingDir)); err != nil {
		return fmt.Errorf("clear up state directory: %w", err)
	}
	open := func(sub string, mine bool) *keeper.Client {
		return keeper.Open(ctx, keeper.Options{
			Dir: filepath.Join(s.dir, sub), Path: s.config.Path, PluginOnly: mine,
			NoCgroup: s.config.Cgroups == "off", NoNamespace: s.config.Namespaces == "off",
		})
	}
	s.nodes, s.builds = open(nodesDir, false), open(buildsDir, true)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	run := make([]byte, 4)
	_, _ = rand.Read(run)
	if s.self, err = node.New(node.Config{Name: "debughost-sandbox-" + hex.EncodeToString(run) + "@127.0.0.1"}); err != nil {
		return err
	}
	s.selfEnd = make(chan error, 1)
	go func() { s.selfEnd <- s.self.Run(s.ctx) }()
	return nil
}

// sweep removes what those that were killed were about to make. They had, as who calls it
// has until the result is closed, a lock on the directory. During a reload of the plugin
// the one before is still at work in there: then what is old goes, and no more.
func sweep(dir string) (lock *os.File, err error) {
	if lock, err = os.Open(dir); err != nil {
		return nil, err
	}
	fd := int(lock.Fd())
	alone := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
	left, _ := os.ReadDir(dir)
	for _, e := range left {
		if info, err := e.Info(); alone || err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	_ = unix.Flock(fd, unix.LOCK_SH) // not on each file system
	return lock, nil
}

// Close ends the connections to the keepers. Sandboxes go on for as long as they
// may, compilers for a few seconds.
func (s *Strategy) Close() error {
	if s.selfEnd == nil {
		return nil
	}
	s.cancel()
	s.mu.Lock()
	for _, w := range s.warms {
		if w.end != nil {
			w.end.Stop()
		}
	}
	s.mu.Unlock()
	return errors.Join(<-s.selfEnd, s.builds.Close(), s.nodes.Close(), s.staging.Close())
}

// handle is what the host keeps.
type handle struct {
	Token string `json:"token"`
	Node  string `json:"node"`
}

// Create implements sdk.Sandbox.
func (s *Strategy) Create(ctx context.Context, spec sdk.SandboxSpec) (sdk.SandboxHandle, error) {
	n := defaultNode()
	if err := sdk.DecodeConfig(spec.Config, &n); err != nil {
		return sdk.SandboxHandle{}, fmt.Errorf("create %.140s: %w", spec.ID, err)
	}
	h, err := s.create(ctx, spec, n, nil)
	if err != nil {
		return sdk.SandboxHandle{}, fmt.Errorf("create %.140s: %w", spec.ID, err)
	}
	return s.created(spec.ID, h)
}

func (s *Strategy) created(id string, h handle) (sdk.SandboxHandle, error) {
	s.name(id, h.Node)
	state, err := json.Marshal(h)
	return sdk.SandboxHandle{ID: id, State: state}, err
}

// name notes what a sandbox's node is called.
func (s *Strategy) name(id, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[id] = node
}

// Inspect implements sdk.Sandbox.
func (s *Strategy) Inspect(ctx context.Context, id string) (sdk.SandboxStatus, error) {
	st, err := s.nodes.Inspect(ctx, id)
	if err != nil {
		return sdk.SandboxStatus{}, err
	}
	status := sdk.SandboxStatus{
		ID: id, State: st.State, OSPid: st.OSPid, Started: st.Started, Exit: st.Exit, Memory: st.Memory, Enforced: st.Enforced,
	}
	if st.Exit == nil {
		s.mu.Lock()
		name := s.names[id]
		s.mu.Unlock()
		home := s.home(id)
		port := readPort(filepath.Join(home, portFile))
		if _, err := os.Lstat(filepath.Join(home, readyFile)); err == nil && name != "" && port != 0 {
			status.Node, status.Addr, status.CookieFile = name, fmt.Sprint("127.0.0.1:", port), s.cookie(id)
		}
	}
	return status, nil
}

// readPort is the port that a node has written to a file of its own; 0: none.
func readPort(file string) uint16 {
	f, err := openRegular(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 8))
	if err != nil {
		return 0
	}
	port, _ := strconv.ParseUint(string(text), 10, 16)
	return uint16(port)
}

// Wait implements sdk.Sandbox.
func (s *Strategy) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	return s.nodes.Wait(ctx, id)
}

// Stop implements sdk.Sandbox.
func (s *Strategy) Stop(ctx context.Context, id string, timeout time.Duration) error {
	s.drop(id)
	return s.nodes.Stop(ctx, id, timeout)
}

// Destroy implements sdk.Sandbox.
func (s *Strategy) Destroy(ctx context.Context, id string) error {
	s.drop(id)
	err := s.nodes.Destroy(ctx, id)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.names, id)
	}
	return err
}

// Recover implements sdk.Sandbox.
func (s *Strategy) Recover(ctx context.Context, h sdk.SandboxHandle) error {
	var state handle
	if err := json.Unmarshal(h.State, &state); err != nil {
		return fmt.Errorf("recover %.140s: %w: its handle is none of this plugin's", h.ID, sdk.ErrNotFound)
	}
	err := s.nodes.Recover(ctx, h.ID, state.Token)
	if err == nil {
		s.name(h.ID, state.Node)
	}
	return err
}

// Logs implements sdk.Sandbox. While a sandbox is compiled, it is what its compiler prints.
func (s *Strategy) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	err := s.nodes.Logs(ctx, id, o, emit)
	if compiler := s.compilerOf(id); compiler != "" && errors.Is(err, sdk.ErrNotFound) {
		return s.builds.Logs(ctx, compiler, o, emit)
	}
	return err
}

// stage makes a directory that is about to become something.
func (s *Strategy) stage() (string, error) {
	dir, err := os.MkdirTemp(filepath.Join(s.dir, stagingDir), "")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return dir, nil
}

// kind is what a source is.
type kind string

const (
	empty   kind = "empty"
	script  kind = "script"  // .exs
	module  kind = "module"  // .erl
	mix     kind = "mix"     // a project's directory
	rebar3  kind = "rebar3"  // a project's directory
	release kind = "release" // a directory as mix release and rebar3 release make it
	modules kind = "modules" // lib/APP/ebin, as taken from a node
)

// kindOf looks at a source.
func kindOf(source, shown string) (kind, error) {
	if source == "" {
		return empty, nil
	}
	info, err := os.Stat(source)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return "", sdk.Invalid("source", fmt.Sprintf("%s: %v (it has to be on the member that runs the sandbox, or in the bundle)", shown, path.Err))
	case err != nil:
		return "", err
	case info.IsDir():
		return kindOfDir(source, shown)
	case filepath.Ext(source) == ".exs":
		return script, nil
	case filepath.Ext(source) == ".erl":
		return module, nil
	}
	return "", sdk.Invalid("source", fmt.Sprintf("%s is no .exs, no .erl and no directory", shown))
}

func kindOfDir(source, shown string) (kind, error) {
	has := func(pattern string) bool {
		found, _ := fs.Glob(os.DirFS(source), pattern)
		return len(found) > 0
	}
	switch {
	case has("mix.exs"):
		return mix, nil
	case has("rebar.config"):
		return rebar3, nil
	case has("releases/start_erl.data"):
		return release, nil
	case has("lib/*/ebin"):
		return modules, nil
	}
	return "", sdk.Invalid("source", shown+" has neither mix.exs nor rebar.config nor releases/start_erl.data nor lib/*/ebin in it")
}
