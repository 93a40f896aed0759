package plugin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
)

// Options are what a Manager needs. SocketDir is required.
//
// The callbacks for one topology come one at a time and in order; those of
// different topologies may come at once. They should return soon, for the
// plugin waits meanwhile, and must not call the Manager.
type Options struct {
	// SocketDir is a directory for this Manager alone, mode 0700, with a path
	// of at most 60 bytes. Whatever is in it is removed by Run.
	SocketDir string
	Log       logrus.FieldLogger // default: none
	Events    *events.Bus        // default: none
	Environ   []string           // what plugins may inherit from; default os.Environ()
	// Executable is the path of this program, beside which plugins are looked
	// for; default os.Executable().
	Executable string

	// OnNodes takes a full list. A part of it may be old; then
	// OnDiscoveryError says so too.
	OnNodes func(topology string, nodes []sdk.Node)
	// OnDiscoveryError says that a strategy answers with an error, in which
	// case its last list stays, or with nil that it answers again.
	OnDiscoveryError func(topology string, err error)
	// OnRemoved says that a topology is no more, and so what it found.
	OnRemoved func(topology string)
}

// Spec is one plugin at work.
type Spec struct {
	Topology string          // a name of its own; of another kind's, what Slot makes
	Plugin   string          // the name of the plugin and its file, discovery-epmd
	Kind     sdk.Kind        // what it has to be
	Config   json.RawMessage // its section, a JSON object
	Checksum string          // sha256:<64 hex> of its file; empty means unchecked
	StateDir string          // that it may keep files in; empty: none
	// Self is what a discovery plugin is told of this member. When only this
	// changes, the process stays and its Watch begins anew.
	Self sdk.Self
}

// equal reports whether one process can serve both: whether they differ in
// nothing but what a Watch is told.
func (s Spec) equal(o Spec) bool {
	return s.Topology == o.Topology && s.Plugin == o.Plugin && s.Kind == o.Kind &&
		s.Checksum == o.Checksum && s.StateDir == o.StateDir && bytes.Equal(s.Config, o.Config) && s.Self.Finds == o.Self.Finds
}

// Specs makes the specs of the topologies of a configuration. Their plugins are
// told what to find, and nothing else; see WithSelf.
func Specs(topologies []config.Topology) []Spec {
	specs := make([]Spec, len(topologies))
	for i, t := range topologies {
		finds := sdk.RoleTarget
		if t.Finds == config.FindsMembers {
			finds = sdk.RoleMember
		}
		specs[i] = Spec{
			Topology: t.Name, Plugin: t.Strategy, Kind: sdk.KindDiscovery, Config: t.Config, Checksum: t.Checksum,
			Self: sdk.Self{Finds: finds},
		}
	}
	return specs
}

// WithSelf returns the specs with what those plugins that find members are to
// be told of this one. self is asked for each of their strategies, since each
// has secrets of its own; Finds stays what it was.
func WithSelf(specs []Spec, self func(strategy string) sdk.Self) []Spec {
	specs = slices.Clone(specs)
	for i, s := range specs {
		if s.Self.Finds == sdk.RoleMember {
			specs[i].Self = self(s.Plugin)
			specs[i].Self.Finds = sdk.RoleMember
		}
	}
	return specs
}

// Slot is the name that a strategy of another kind than discovery has among the
// topologies.
func Slot(kind sdk.Kind, strategy string) string { return string(kind) + "/" + strategy }

// section is where the spec's config is in the configuration.
func (s Spec) section() string {
	if s.Kind == sdk.KindDiscovery {
		return "topologies." + s.Topology + ".config"
	}
	return strings.Replace(s.Topology, "/", ".", 1)
}

// State is where a plugin is in its life.
type State string

// The states.
const (
	Starting   State = "starting"
	Running    State = "running"
	Restarting State = "restarting" // it ended or did not start; the next attempt is due
	Failed     State = "failed"     // it is not started again before a reload
	Stopped    State = "stopped"    // it was asked to end
)

// Status describes one plugin. During a reload a topology may have two.
type Status struct {
	Name     string
	Kind     sdk.Kind
	Topology string
	State    State
	Version  string // as it reports it; empty until it was running once
	Pid      int    // of its OS process; 0 while there is none
	Restarts int    // since it was selected
	Since    time.Time
	Reason   string // why it is not running; empty when it is
	Path     string // of its file; empty until it was found
}

// Manager runs plugins. Its methods may be called from any goroutine, but not
// from its callbacks.
type Manager struct {
	opts    Options
	forker  *forker
	changed chan struct{} // capacity 1: Apply was called

	mu       sync.Mutex
	settings config.Plugins
	want     []Spec
	slots    map[string]*slot
}

// New returns a Manager without plugins.
func New(o Options) *Manager {
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	if o.Events == nil {
		o.Events = events.New(events.Options{MaxCount: 1})
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.OnNodes == nil {
		o.OnNodes = func(string, []sdk.Node) {}
	}
	if o.OnDiscoveryError == nil {
		o.OnDiscoveryError = func(string, error) {}
	}
	if o.OnRemoved == nil {
		o.OnRemoved = func(string) {}
	}
	return &Manager{opts: o, forker: newForker(), changed: make(chan struct{}, 1), slots: map[string]*slot{}}
}

// Apply says what is to run from now on, and how. It returns at once; Run does
// the work.
//
// A plugin whose spec is the same stays as it is, unless it had failed: then
// it is started anew. Where only Self differs, the plugin's Watch begins anew,
// and what it found stays. One whose spec differs is started beside the old one,
// which goes on until the new one has answered; if the new one fails, the old
// one stays and both are listed. New settings apply to the next start, the
// next health check and so on of all plugins.
func (m *Manager) Apply(settings config.Plugins, specs []Spec) {
	m.mu.Lock()
	m.settings = settings
	m.want = slices.Clone(specs)
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run keeps the plugins running until ctx ends, and returns when all their
// processes are gone. It is called once.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.prepare(); err != nil {
		return err
	}
	forkerDone := make(chan struct{})
	forkerCtx, stopForker := context.WithCancel(context.Background())
	go func() {
		defer close(forkerDone)
		m.forker.run(forkerCtx)
	}()
	var running sync.WaitGroup
	defer func() {
		running.Wait()
		stopForker()
		<-forkerDone
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
			m.reconcile(ctx, &running)
		}
	}
}

func (m *Manager) prepare() error {
	if m.opts.SocketDir == "" {
		return errors.New("run plugins: no socket directory")
	}
	if err := os.MkdirAll(m.opts.SocketDir, 0o700); err != nil {
		return fmt.Errorf("run plugins: make socket directory: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(m.opts.SocketDir, "*"))
	for _, path := range left {
		_ = os.RemoveAll(path) // of a host that was killed
	}
	if m.opts.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("run plugins: find own executable: %w", err)
		}
		m.opts.Executable = exe
	}
	return nil
}

// reconcile makes the slots what Apply wants.
func (m *Manager) reconcile(ctx context.Context, running *sync.WaitGroup) {
	m.mu.Lock()
	want := map[string]Spec{}
	for _, spec := range m.want {
		want[spec.Topology] = spec
	}
	var gone []*slot
	for name, s := range m.slots {
		if _, ok := want[name]; !ok {
			gone = append(gone, s)
			delete(m.slots, name)
		}
	}
	for name, spec := range want {
		s, ok := m.slots[name]
		if !ok {
			s = newSlot(ctx, m, name)
			m.slots[name] = s
			running.Go(s.run)
		}
		s.apply(spec)
	}
	m.mu.Unlock()
	for _, s := range gone {
		s.cancel()
		<-s.quiet
		m.opts.OnRemoved(s.topology)
	}
}

// config returns the settings in force.
func (m *Manager) config() config.Plugins {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings
}

// Status returns the state of every plugin, by topology.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	slots := make([]*slot, 0, len(m.slots))
	for _, s := range m.slots {
		slots = append(slots, s)
	}
	m.mu.Unlock()
	var out []Status
	for _, s := range slots {
		out = append(out, s.status()...)
	}
	slices.SortStableFunc(out, func(a, b Status) int { return cmp.Compare(a.Topology, b.Topology) })
	return out
}

// Client returns the connection to the plugin that is in force for a topology,
// and what it said of itself. The connection ends with the plugin's process;
// whoever uses it asks for it anew each time.
func (m *Manager) Client(topology string) (*wire.Client, sdk.Description, error) {
	m.mu.Lock()
	s := m.slots[topology]
	m.mu.Unlock()
	if s == nil {
		return nil, sdk.Description{}, fmt.Errorf("use plugin of topology %s: there is no such topology", topology)
	}
	return s.client()
}

// awaitEvery is the pause between two looks at a plugin that is being started.
const awaitEvery = 10 * time.Millisecond

// Await is Client for a plugin that may be on its way up: it waits, until ctx
// ends, for one that is being started the first time. One that has ended, and is
// to be started again, is an error at once.
func (m *Manager) Await(ctx context.Context, topology string) (*wire.Client, sdk.Description, error) {
	for {
		m.mu.Lock()
		s := m.slots[topology]
		m.mu.Unlock()
		var err error
		if s != nil {
			client, description, clientErr := s.client()
			if clientErr == nil || !s.starting() {
				return client, description, clientErr
			}
			err = clientErr
		} else {
			err = fmt.Errorf("use plugin of %s: it is not started yet", topology)
		}
		if !sleep(ctx, awaitEvery) {
			return nil, sdk.Description{}, err
		}
	}
}
