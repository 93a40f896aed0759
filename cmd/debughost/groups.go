package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// groupJSON is a process group or a registered key in JSON; its keys are a contract.
type groupJSON struct {
	Node       string    `json:"node"`
	Kind       string    `json:"kind"`
	Scope      string    `json:"scope"`
	Group      string    `json:"group"`
	Count      uint64    `json:"count"`
	LocalCount uint64    `json:"local_count"`
	Members    []refJSON `json:"members"`
}

// scopeJSON is a scope of pg or a registry.
type scopeJSON struct {
	Node       string   `json:"node"`
	Kind       string   `json:"kind"`
	Scope      string   `json:"scope"`
	Owner      string   `json:"owner"`
	Keys       string   `json:"keys"`
	Partitions []uint64 `json:"partitions"`
	Total      uint64   `json:"total"`
	Seen       uint64   `json:"seen"`
}

func (a *app) groupsCommand() *cobra.Command {
	req := &controlpb.ListGroupsRequest{}
	cmd := &cobra.Command{
		Use:   "groups [NODE…]",
		Short: "Show process groups of pg and entries of Elixir's Registry",
		Long: `Show the groups of every scope of pg and the keys of every Registry of Elixir, of the
nodes that are named or of all, the largest groups first.

count is the members on all nodes, local_count those on this one; a process that
joined twice counts twice. A Registry is local to its node.`,
		Example: `  debughost groups shop@db1
  debughost groups --scope My.Registry --filter orders --members 10
  debughost groups -o json | jq '.scopes[]'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes, req.Timeout = nodes, a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.groups(ctx, c, req) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Scope, "scope", "", "only this scope of pg or this registry")
	fl.StringVar(&req.Filter, "filter", "", "only groups or keys that contain this, in upper or lower case, as Erlang prints them")
	fl.Uint32Var(&req.Limit, "limit", 100, "groups of each node, 0 for 10000")
	fl.Uint32Var(&req.Members, "members", 3, "members to show of each group, at most 100")
	return cmd
}

func (a *app) groups(ctx context.Context, c *control.Client, req *controlpb.ListGroupsRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Resources.ListGroups(ctx, req)
	if err != nil {
		return err
	}
	l := listing[groupJSON]{
		plural: "groups", errors: res.GetErrors(), answered: len(res.GetAnswered()), note: "no group matches", alsoPlural: "scopes",
		header: []string{"node", "kind", "scope", "group", "count", "local_count", "members"},
		csv: func(g groupJSON) []string {
			return []string{g.Node, g.Kind, g.Scope, g.Group, decimal(g.Count), decimal(g.LocalCount), membersText(g.Members)}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "kind", dull: true}, {name: "scope", least: 12}, {name: "group", least: 16},
			{name: "count", right: true}, {name: "local_count", right: true, spare: 1}, {name: "members", least: 16},
		},
		cells: func(g groupJSON) []string {
			return []string{g.Node, g.Kind, short(g.Scope), g.Group, decimal(g.Count), decimal(g.LocalCount), membersText(g.Members)}
		},
	}
	shown := map[string]uint32{}
	for _, g := range res.GetGroups() {
		shown[g.GetNode()]++
		l.rows = append(l.rows, groupJSON{g.GetNode(), g.GetKind(), g.GetScope(), g.GetGroup(), g.GetCount(), g.GetLocalCount(), refRows(g.GetMembers())})
	}
	for _, s := range res.GetScopes() {
		l.also = append(l.also, scopeJSON{
			s.GetNode(), s.GetKind(), s.GetScope(), s.GetOwner(), s.GetKeys(), append([]uint64{}, s.GetPartitions()...), s.GetTotal(), s.GetSeen(),
		})
	}
	err = printListing(a, l)
	for _, s := range res.GetScopes() {
		if s.GetSeen() < s.GetTotal() {
			delete(shown, s.GetNode())
			a.note("of the %d entries of %s on %s %d were looked at: --limit shows more, --filter searches", s.GetTotal(), sane(short(s.GetScope())), sane(s.GetNode()), s.GetSeen())
		}
	}
	for _, node := range slices.Sorted(maps.Keys(shown)) {
		if shown[node] == req.GetLimit() {
			a.note("%s may have more groups than these %d: --limit shows more", sane(node), shown[node])
		}
	}
	return err
}

func membersText(members []refJSON) string {
	var out []string
	for _, m := range members {
		text := cmp.Or(short(m.RegisteredName), m.Pid)
		if m.Node != "" {
			text += " on " + m.Node
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
