package host

import (
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/debughost/debughost/host/plugin"
	"github.com/debughost/debughost/sdk"
)

// Status is what a member knows of itself.
type Status struct {
	Member     string
	Node       string // our hidden node's name
	Started    time.Time
	ConfigFile string // empty: built-in defaults
	DataDir    string
	Topologies []Topology // sorted by name
	Warnings   []string   // what a person should look at, each a sentence
}

// Topology is a strategy at work, and its last answer.
type Topology struct {
	Name     string
	Strategy string
	State    plugin.State
	Reason   string    // why it does not run, or what its lookup fails with
	Nodes    int       // in its last answer
	Updated  time.Time // of its last answer; zero before the first
}

// answers remembers what each topology's strategy last said.
type answers struct {
	mu   sync.Mutex
	last map[string]answer
}

type answer struct {
	nodes   int
	updated time.Time
	err     string
}

func (a *answers) change(topology string, f func(*answer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = map[string]answer{}
	}
	v := a.last[topology]
	f(&v)
	a.last[topology] = v
}

func (a *answers) forget(topology string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.last, topology)
}

func (a *answers) all() map[string]answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.last)
}

func (h *Host) socketDir(name string) (string, error) {
	dir, err := h.store.SocketDir(name)
	if err == nil {
		h.socketDirs = append(h.socketDirs, dir)
	}
	return dir, err
}

// buildPlugins makes the plugin manager and ties it to the targets.
func (h *Host) buildPlugins() error {
	dir, err := h.socketDir("plugins")
	if err != nil {
		return err
	}
	h.plugins = plugin.New(plugin.Options{
		SocketDir: dir,
		Log:       h.opts.Log.WithField("part", "plugin"),
		Events:    h.bus,
		OnNodes:   h.found,
		OnDiscoveryError: func(topology string, err error) {
			h.answers.change(topology, func(a *answer) {
				a.err = ""
				if err != nil {
					a.err = err.Error()
				}
			})
		},
		OnRemoved: func(topology string) {
			h.answers.forget(topology)
			h.targets.Forget(topology)
			h.cluster.ForgetTopology(topology)
		},
	})
	return nil
}

// Plugins lists the plugins, sorted by name and topology.
func (h *Host) Plugins() []plugin.Status { return h.plugins.Status() }

// Status tells how the member does.
func (h *Host) Status() Status {
	cfg := h.config()
	s := Status{Member: h.member, Node: h.node.Name(), Started: h.started, ConfigFile: cfg.File, DataDir: h.store.Dir()}
	for _, w := range h.store.Warnings() {
		s.Warnings = append(s.Warnings, w.Error())
	}
	if filepath.Dir(h.Socket()) != h.store.Dir() && cfg.API.Socket == "" {
		s.Warnings = append(s.Warnings, "the control socket is not in the data directory, which cannot be written to: use --addr "+h.Socket())
	}
	states := map[string]plugin.Status{}
	for _, p := range h.plugins.Status() {
		if had, ok := states[p.Topology]; !ok || had.State != plugin.Running {
			states[p.Topology] = p
		}
	}
	said := h.answers.all()
	for _, t := range cfg.Topologies {
		p, a := states[t.Name], said[t.Name]
		topology := Topology{Name: t.Name, Strategy: t.Strategy, State: p.State, Reason: p.Reason, Nodes: a.nodes, Updated: a.updated}
		if topology.Reason == "" {
			topology.Reason = a.err
		}
		s.Topologies = append(s.Topologies, topology)
	}
	return s
}

// found takes the answer of one topology's strategy.
func (h *Host) found(topology string, nodes []sdk.Node) {
	h.answers.change(topology, func(a *answer) { a.nodes, a.updated = len(nodes), time.Now() })
	h.pass(topology, nodes)
	h.passMembers(topology, nodes)
}
