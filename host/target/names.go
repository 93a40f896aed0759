package target

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// choose returns the targets that a query names, in the order of its names;
// without names all that a strategy names or that are attached. A name is a
// full node name, or the part before @ where one target has it.
func (m *Manager) choose(nodes []string) (chosen []*target, failed []NodeError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(nodes) == 0 {
		for _, t := range m.targets {
			if t.wanted() {
				chosen = append(chosen, t)
			}
		}
		return chosen, nil
	}
	seen := map[*target]bool{}
	for _, name := range nodes {
		t, err := m.lookup(name)
		switch {
		case err != nil:
			failed = append(failed, NodeError{Node: name, Err: err})
		case !seen[t]:
			seen[t] = true
			chosen = append(chosen, t)
		}
	}
	return chosen, failed
}

// lookup finds one target by name. The caller holds m.mu.
func (m *Manager) lookup(name string) (*target, error) {
	known := map[string]*target{} // by full name; of several, that which is attached
	for _, t := range m.targets {
		if info, shown := t.info(); shown && (known[info.Node] == nil || info.Creation != 0) {
			known[info.Node] = t
		}
	}
	full, err := Match(name, maps.Keys(known))
	if errors.Is(err, ErrNoTarget) {
		if node, ok := m.cfg.Alias(name); ok && known[node] != nil {
			return known[node], nil
		}
	}
	if err != nil {
		return nil, err
	}
	return known[full], nil
}

// Match finds the full name of a node that a name means, among those that are
// known: a full name, or the part before the @ where one node has it. The error
// is ErrNoTarget or ErrAmbiguous, with a hint.
func Match(name string, known iter.Seq[string]) (string, error) {
	var byAlive []string
	none := true
	for full := range known {
		none = false
		if full == name {
			return full, nil
		}
		if alive, _, _ := strings.Cut(full, "@"); alive == name && !slices.Contains(byAlive, full) {
			byAlive = append(byAlive, full)
		}
	}
	switch {
	case len(byAlive) == 1:
		return byAlive[0], nil
	case none:
		return "", hint(fmt.Errorf("find %s: %w", name, ErrNoTarget), "no nodes were found yet; `debughost events` tells what discovery does")
	case len(byAlive) == 0:
		return "", hint(fmt.Errorf("find %s: %w", name, ErrNoTarget), "`debughost targets` lists those that are known")
	}
	slices.Sort(byAlive)
	return "", hint(fmt.Errorf("find %s: %w", name, ErrAmbiguous), "give the full name: %s", strings.Join(byAlive, " or "))
}

// Resolve returns the full name of the target that a name means: a full name,
// or the part before the @ where one target has it. The error is ErrNoTarget or
// ErrAmbiguous.
func (m *Manager) Resolve(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.lookup(name)
	if err != nil {
		return "", err
	}
	return t.display(), nil
}

// one finds the target that an operation on a single process names.
func (m *Manager) one(name string) (*target, *node.Peer, error) {
	m.mu.Lock()
	t, err := m.lookup(name)
	m.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	link, err := t.usable()
	return t, link, err
}

// wanted tells whether a question to all targets includes this one. Those that
// another member has are that one's to answer for.
func (t *target) wanted() bool {
	if mine, _ := t.mine(); !mine {
		if owner, ok := t.m.cfg.Ownership.Owner(t.display()); ok && owner != t.m.cfg.Member {
			return false
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.hidden && (t.link != nil || t.dropped.IsZero())
}

// usable returns the connection, or why there is none.
func (t *target) usable() (*node.Peer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.leaving != "":
		return nil, fmt.Errorf("%s is %w (%s: %s)", t.node, ErrNotAttached, Discovered, t.leaving)
	case t.link != nil && t.state == Attached:
		return t.link, nil
	case t.link != nil: // it is probed, and is attached again as soon as it answers
		return nil, hint(fmt.Errorf("%s: %w: %s", t.node, ErrTimeout, t.reason), "%s", t.hint)
	}
	why := string(t.state)
	if t.reason != "" {
		why += ": " + t.reason
	}
	err := fmt.Errorf("%s is %w (%s)", t.node, ErrNotAttached, why)
	if t.hint != "" {
		return nil, hint(err, "%s", t.hint)
	}
	return nil, err
}

// pidText writes the pid as its own node does.
func pidText(p etf.Pid) string {
	return "<0." + strconv.FormatUint(uint64(p.ID), 10) + "." + strconv.FormatUint(uint64(p.Serial), 10) + ">"
}

// shownPids remembers under which incarnation of the node each pid was last
// shown to somebody. A pid's text does not tell, and after a restart the same
// text may be another process. It holds the last few thousand.
type shownPids struct {
	mu   sync.Mutex
	at   map[pidKey]uint32 // creation
	prev map[pidKey]uint32 // the generation before, dropped when at is full
}

type pidKey struct{ id, serial uint32 }

const shownMax = 8192

func (s *shownPids) note(p etf.Pid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil || len(s.at) >= shownMax {
		s.prev, s.at = s.at, make(map[pidKey]uint32, 256)
	}
	s.at[pidKey{p.ID, p.Serial}] = p.Creation
}

// creation returns that under which the pid was last shown, or 0.
func (s *shownPids) creation(id, serial uint32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.at[pidKey{id, serial}]; ok {
		return c
	}
	return s.prev[pidKey{id, serial}]
}

// process finds the process that text names on the target: a pid, or a
// registered name. A pid that was last shown under an earlier incarnation of the
// node is refused. To act on one, once the node has restarted, it must have been
// shown under the present one: nobody knows where else its text comes from.
func (t *target) process(ctx context.Context, link *node.Peer, text string, act bool) (etf.Pid, error) {
	if id, serial, err := etf.ParsePid(text); err == nil {
		if !t.possible(id, serial) {
			return etf.Pid{}, hint(fmt.Errorf("find %s on %s: %w: no process of this node can have that number", text, link.Name(), ErrNoProcess), "`debughost ps %s` lists those that are alive", link.Name())
		}
		pid := etf.Pid{Node: etf.Atom(link.Name()), ID: id, Serial: serial, Creation: link.Creation()}
		if c := t.shown.creation(id, serial); c != pid.Creation && (c != 0 || act && t.restartedOnce()) {
			return pid, hint(fmt.Errorf("find %s on %s: %w", pidText(pid), link.Name(), ErrStalePid), "look at it again with `debughost ps` or `inspect`: the pid may now be another process")
		}
		return pid, nil
	} else if looksLikePid(text) {
		return etf.Pid{}, hint(fmt.Errorf("read process %q: %w", text, ErrBadQuery), "a pid of this node looks like <0.123.0>; its first number is 0")
	}
	for _, name := range registeredNames(text) {
		reply, err := t.whereis(ctx, link, name)
		if err != nil {
			return etf.Pid{}, err
		}
		switch p := reply.(type) {
		case etf.Pid:
			return p, nil
		case etf.Port:
			return etf.Pid{}, fmt.Errorf("find %s on %s: the name belongs to a port, not to a process: %w", text, link.Name(), ErrNoProcess)
		}
	}
	if text == "" || len(text) > 255 || !utf8.ValidString(text) {
		return etf.Pid{}, hint(fmt.Errorf("read process %.40q: %w", text, ErrBadQuery), "give a pid as <0.123.0> or a registered name as my_worker or My.Worker")
	}
	return etf.Pid{}, hint(fmt.Errorf("find %s on %s: %w: no process has this name", text, link.Name(), ErrNoProcess), "`debughost ps --filter` searches names and functions")
}

// possible tells whether a process of the target can have a pid of these
// numbers. A node that is sent another one as its own takes the message for
// corrupted, and closes the connection.
func (t *target) possible(id, serial uint32) bool {
	if release, err := strconv.Atoi(t.releaseText()); err == nil && release < 26 {
		return id < 1<<15 && serial < 1<<13
	}
	return id < 1<<28
}

// registeredNames are the names that text may mean, the likeliest first: as it
// is written in Erlang or Elixir, and as it stands.
func registeredNames(text string) []string {
	var names []string
	if name, err := etf.ParseName(text); err == nil {
		names = append(names, string(name))
	}
	if text != "" && len(text) <= 255 && utf8.ValidString(text) && !slices.Contains(names, text) {
		names = append(names, text)
	}
	return names
}

// whereis looks a name up, and makes no atom of it on the target.
func (t *target) whereis(ctx context.Context, link *node.Peer, name string) (etf.Term, error) {
	known, err := t.existingAtom(ctx, link, name)
	if err != nil || known == nil {
		return etf.Atom("undefined"), err
	}
	return t.call(ctx, link, "erlang", "whereis", known)
}

// existingAtom is nil for an atom that the target does not have.
func (t *target) existingAtom(ctx context.Context, link *node.Peer, name string) (etf.Term, error) {
	reply, err := t.call(ctx, link, "erlang", "binary_to_existing_atom", etf.Binary(name), etf.Atom("utf8"))
	var remote *node.CallError
	if errors.As(err, &remote) {
		return nil, nil
	}
	return reply, err
}

func (t *target) restartedOnce() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.restarted
}

func looksLikePid(s string) bool {
	return strings.HasPrefix(s, "<") || strings.HasPrefix(s, "#PID") || s != "" && strings.Trim(s, "0123456789.") == ""
}
