package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// TestMain runs the tests; under a plugin's name this program is that plugin.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case notesPlugin:
		serveNotes()
		return
	case changingPlugin:
		serveChanging()
		return
	}
	rig.Main(m)
}

// cookie is of all nodes of these tests.
const cookie = "clustertestcookie"

// port is where members listen, each on a machine of its own.
const port = "7946"

// member is one debughost of a cluster.
type member struct {
	*rig.Host
	name    string
	machine *machine
	opts    rig.Options
}

// crew are the members of one cluster and the key that they share.
type crew struct {
	t       testing.TB
	lab     *lab
	home    string // with cookie and key
	members []*member
}

func newCrew(t testing.TB, l *lab) *crew {
	t.Helper()
	c := &crew{t: t, lab: l, home: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(c.home, ".erlang.cookie"), []byte(cookie), 0o400))
	c.writeKey("cluster.key")
	return c
}

// writeKey makes a key file in the home and returns its path.
func (c *crew) writeKey(name string) string {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	h := rig.Host{Dir: c.home}
	h.Exit(c.t, 0, "keygen", path)
	text, err := os.ReadFile(path)
	require.NoError(c.t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			raw, err := base64.StdEncoding.DecodeString(line)
			require.NoError(c.t, err)
			require.Len(c.t, raw, 32)
		}
	}
	return path
}

// start starts a member on a machine and waits until it answers. It looks for
// nodes on the machines that hosts names besides its own, and joins the members
// that are there already.
func (c *crew) start(name string, m *machine, hosts []*machine, args ...string) *member {
	c.t.Helper()
	p := c.prepare(name, m, hosts, args...)
	p.again(c.t)
	return p
}

// launch is start without the wait.
func (c *crew) launch(name string, m *machine, hosts []*machine, args ...string) *member {
	c.t.Helper()
	p := c.prepare(name, m, hosts, args...)
	o := p.opts
	o.NoWait = true
	p.Host = rig.Start(c.t, o)
	return p
}

func (c *crew) prepare(name string, m *machine, hosts []*machine, args ...string) *member {
	c.t.Helper()
	conf := filepath.Join(c.home, name+".toml")
	text := "[topologies.here]\nstrategy = \"discovery-epmd\"\n"
	if len(hosts) > 0 {
		var ips []string
		for _, h := range hosts {
			ips = append(ips, fmt.Sprintf("%q", h.ip))
		}
		text += "[topologies.there]\nstrategy = \"discovery-epmd\"\n[topologies.there.config]\nhosts = [" + strings.Join(ips, ", ") + "]\n"
	}
	require.NoError(c.t, os.WriteFile(conf, []byte(text), 0o600))
	key := filepath.Join(c.home, name+".key")
	data, err := os.ReadFile(filepath.Join(c.home, "cluster.key"))
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(key, data, 0o600))
	all := []string{"--config", conf, "--name", name, "--cluster-bind", m.ip + ":" + port, "--cluster-key-file", key}
	for _, o := range c.members {
		all = append(all, "--join", o.machine.ip+":"+port)
	}
	p := &member{name: name, machine: m, opts: rig.Options{
		Dir: rig.TempDir(c.t), Prefix: m.in(), Args: append(all, args...),
		Env: []string{"HOME=" + c.home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR")},
	}}
	c.members = append(c.members, p)
	return p
}

// again starts the member once more as it was started first.
func (p *member) again(t testing.TB) { t.Helper(); p.Host = rig.Start(t, p.opts) }

// node starts a BEAM node on a machine.
func node(t testing.TB, m *machine, name string, o erltest.Options) *erltest.Beam {
	t.Helper()
	o.Name, o.Long, o.Cookie, o.EPMD, o.Prefix = name+"@"+m.ip, true, cookie, m.epmd, m.in()
	return erltest.Start(t, o)
}

type memberRow struct {
	Name, State, Address, Version string
	Since                         time.Time
	Targets                       int
	Quorum                        bool
}

type targetRow struct{ Node, State, Owner, Reason string }

type entryRow struct {
	Key, Origin string
	Value       json.RawMessage
	Owner       json.RawMessage
}

// states is what a member says of all members.
func (p *member) states() (map[string]string, error) {
	var a struct{ Members []memberRow }
	if err := p.TryJSON(&a, "members"); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, m := range a.Members {
		out[m.Name] = m.State
	}
	return out, nil
}

func (p *member) targets() (map[string]targetRow, error) {
	var a struct{ Targets []targetRow }
	if err := p.TryJSON(&a, "targets"); err != nil {
		return nil, err
	}
	out := map[string]targetRow{}
	for _, r := range a.Targets {
		out[r.Node] = r
	}
	return out, nil
}

// entries are all of the registry, as one line each, sorted.
func (p *member) entries() ([]string, error) {
	var a struct{ Entries []entryRow }
	if err := p.TryJSON(&a, "registry", "list"); err != nil {
		return nil, err
	}
	var out []string
	for _, e := range a.Entries {
		if strings.HasPrefix(e.Key, "target/") {
			e.Value = nil // changes with each look at the node
		}
		out = append(out, fmt.Sprintf("%s = %s of %s at %s", e.Key, e.Value, e.Owner, e.Origin))
	}
	slices.Sort(out)
	return out, nil
}

func (p *member) quorum() (bool, error) {
	var a struct{ Cluster struct{ Quorum bool } }
	err := p.TryJSON(&a, "status")
	return a.Cluster.Quorum, err
}

// awaitStates waits until a member sees others so.
func (p *member) awaitStates(t testing.TB, want map[string]string) {
	t.Helper()
	p.Eventually(t, func() error {
		got, err := p.states()
		if err == nil {
			for name, state := range want {
				if got[name] != state {
					err = fmt.Errorf("%s sees %v, want %v", p.name, got, want)
				}
			}
		}
		return err
	})
}

// running are the members that should be alive.
func (c *crew) running() []*member {
	var out []*member
	for _, p := range c.members {
		select {
		case <-p.Done:
		default:
			out = append(out, p)
		}
	}
	return out
}

// settled waits until all running members have one view: they see each other
// alive and nobody else, each node has one owner that is attached to it, and
// their registries are equal and have the keys.
func (c *crew) settled(nodes []*erltest.Beam, keys ...string) {
	c.t.Helper()
	began := time.Now()
	require.NoError(c.t, rig.Until(rig.Patience, func() error { return c.oneView(nodes, keys) }))
	c.t.Logf("one view after %v", time.Since(began).Round(10*time.Millisecond))
}

func (c *crew) oneView(nodes []*erltest.Beam, keys []string) error {
	var first []string
	for i, p := range c.running() {
		states, err := p.states()
		if err != nil {
			return err
		}
		for _, o := range c.running() {
			if states[o.name] != "alive" {
				return fmt.Errorf("%s sees %s as %q", p.name, o.name, states[o.name])
			}
			delete(states, o.name)
		}
		for name, state := range states {
			if state == "alive" {
				return fmt.Errorf("%s sees %s alive, and it does not run", p.name, name)
			}
		}
		if ok, err := p.quorum(); err != nil || !ok {
			return fmt.Errorf("%s has no quorum (%v)", p.name, err)
		}
		entries, err := p.entries()
		if err != nil {
			return err
		}
		if i == 0 {
			first = entries
		} else if !reflect.DeepEqual(first, entries) {
			return fmt.Errorf("registries differ:\n%s:\n%s\n%s:\n%s", c.running()[0].name, strings.Join(first, "\n"), p.name, strings.Join(entries, "\n"))
		}
		for _, key := range keys {
			if !slices.ContainsFunc(entries, func(e string) bool { return strings.HasPrefix(e, key+" = ") }) {
				return fmt.Errorf("%s lost the key %s", p.name, key)
			}
		}
	}
	for _, n := range nodes {
		if err := c.oneOwner(n); err != nil {
			return err
		}
	}
	return nil
}

// oneOwner checks that all members name one owner of a node, and that the node
// has one debughost connected.
func (c *crew) oneOwner(n *erltest.Beam) error {
	owner := ""
	for _, p := range c.running() {
		targets, err := p.targets()
		if err != nil {
			return err
		}
		row := targets[n.Name]
		if row.State != "attached" || row.Owner == "" {
			return fmt.Errorf("%s shows %s as %+v", p.name, n.Name, row)
		}
		if owner != "" && row.Owner != owner {
			return fmt.Errorf("%s is owned by %s and by %s", n.Name, owner, row.Owner)
		}
		owner = row.Owner
	}
	hidden, err := n.Eval(`length([N || N <- nodes(hidden), lists:prefix("debughost", atom_to_list(N))])`)
	if err != nil {
		return err
	}
	if hidden != "1" {
		return fmt.Errorf("%s has %s debughosts connected", n.Name, hidden)
	}
	return nil
}

func (c *crew) owner(n *erltest.Beam) *member {
	c.t.Helper()
	targets, err := c.running()[0].targets()
	require.NoError(c.t, err)
	i := slices.IndexFunc(c.members, func(p *member) bool { return p.name == targets[n.Name].Owner })
	require.GreaterOrEqual(c.t, i, 0, "owner of %s: %v", n.Name, targets)
	return c.members[i]
}

// register registers a key at a member, which must succeed.
func (p *member) register(t testing.TB, key string, args ...string) {
	t.Helper()
	p.Exit(t, 0, append([]string{"registry", "register", key, "--ttl", "1h"}, args...)...)
}
