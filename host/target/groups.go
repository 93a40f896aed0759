package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/groups.erl
var groupsSource []byte

//go:embed agent/groups.beam
var groupsBeam []byte

var groupsModule = newCompanion("groups", groupsSource, groupsBeam)

const (
	// MaxGroups bounds the groups of one target in one answer.
	MaxGroups = 10_000
	// MaxMembers bounds the members that are told of one group.
	MaxMembers = 100
)

// Kinds of groups.
const (
	KindPG       = "pg"       // OTP's pg
	KindRegistry = "registry" // Elixir's Registry
)

// GroupsQuery asks for process groups and registered keys.
type GroupsQuery struct {
	Ask
	Scope   string // of pg, or the name of a registry; empty for all
	Filter  string // part of the printed group or key, case-insensitive
	Limit   int    // groups of each target; default and at most MaxGroups
	Members int    // of each group that are told, at most MaxMembers
}

// Scope is a scope of pg, or a registry.
type Scope struct {
	Kind       string   // KindPG, KindRegistry
	Name       string   // Elixir.My.Registry unabridged
	Owner      string   // the scope's process, or the registry's supervisor
	Keys       string   // unique, duplicate
	Partitions []uint64 // the groups or entries in each
	Total      uint64   // groups of pg, or entries of a registry
	Seen       uint64   // of them those that were looked at
}

// Group is a group of pg, or a key of a registry.
type Group struct {
	Kind    string
	Scope   string
	Group   string // the printed group or key
	Count   uint64 // members on all nodes, those that joined twice twice
	Local   uint64 // members on this node
	Members []ProcessRef
}

// Groups is what one target has of them, the largest groups first.
type Groups struct {
	Scopes []Scope
	Groups []Group
}

// Groups tells the process groups of targets: of every scope of pg, and of
// Elixir's registries.
func (m *Manager) Groups(ctx context.Context, q GroupsQuery, out Answers[Groups]) {
	if q.Limit <= 0 || q.Limit > MaxGroups {
		q.Limit = MaxGroups
	}
	q.Members = min(max(q.Members, 0), MaxMembers)
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Groups, error) {
		var scopes etf.List
		if q.Scope != "" {
			for _, name := range registeredNames(q.Scope) {
				scopes = append(scopes, etf.Binary(name))
			}
		}
		reply, err := t.companionWalk(ctx, link, groupsModule, "groups", etf.Map{
			{Key: etf.Atom("scopes"), Value: scopes},
			{Key: etf.Atom("text"), Value: etf.Binary(strings.ToLower(q.Filter))},
			{Key: etf.Atom("limit"), Value: etf.Int(t.most(q.Limit))},
			{Key: etf.Atom("members"), Value: etf.Int(q.Members)},
			{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
		})
		if errors.Is(err, errNoAgent) {
			return Groups{}, noHelper(link, "list groups", "scopes and registries are found and counted by it")
		}
		if err != nil {
			return Groups{}, err
		}
		return t.parseGroups(ctx, link, reply)
	})
}

// noHelper is the error of a question that plain calls cannot answer within bounds.
func noHelper(link *node.Peer, tried, why string) error {
	return hint(fmt.Errorf("%s of %s: %w", tried, link.Name(), errNoAgent), "%s; [targets] agent allows it", why)
}

// parseGroups reads {[Scope], [Group]}.
func (t *target) parseGroups(ctx context.Context, link *node.Peer, reply etf.Term) (Groups, error) {
	answer, ok := reply.(etf.Tuple)
	if !ok || len(answer) != 2 {
		return Groups{}, fmt.Errorf("list groups of %s: got %s", link.Name(), printed(reply))
	}
	scopes, okScopes := tupleRows(answer[0], 6)
	groups, okGroups := tupleRows(answer[1], 6)
	if !okScopes || !okGroups {
		return Groups{}, fmt.Errorf("list groups of %s: got %s", link.Name(), printed(reply))
	}
	out := Groups{Groups: make([]Group, len(groups))}
	for _, r := range scopes {
		s := Scope{Kind: atom(r[0]), Name: atom(r[1]), Owner: identifier(r[2]), Keys: atom(r[3]), Seen: count(r[5])}
		sizes, _ := etf.Elements(r[4])
		for _, n := range sizes {
			s.Partitions = append(s.Partitions, count(n))
			s.Total += count(n)
		}
		out.Scopes = append(out.Scopes, s)
	}
	print := printOptions(ctx, t, link, InspectQuery{ElixirGuess: true, MaxBytes: 1024})
	in := &inspection{t: t, link: link, self: link.Name()}
	owners := t.newOwners()
	for i, r := range groups {
		g := &out.Groups[i]
		*g = Group{Kind: atom(r[0]), Scope: atom(r[1]), Group: groupKey(r[2], print), Count: count(r[3]), Local: count(r[4])}
		pids, _ := etf.Elements(r[5])
		g.Members = make([]ProcessRef, len(pids))
		for j, pid := range pids {
			g.Members[j] = in.ref(pid)
			owners.addRef(pid, &g.Members[j])
		}
	}
	return out, owners.resolve(ctx, link)
}

// groupKey reads {key, Term} or, for a large one, {text, Beginning}.
func groupKey(t etf.Term, o etf.PrintOptions) string {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 2 {
		return ""
	}
	if atom(e[0]) == "text" {
		return text(e[1]) + "…"
	}
	return etf.Format(e[1], o)
}
