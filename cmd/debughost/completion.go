package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// completionTime is how long the shell may wait for a running debughost. Only
// tests change it, which may run on a machine that is busy with others.
var completionTime = time.Second

type completer = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective)

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // no such flag: a mistake in this program
	}
}

// completeNodes offers the running debughost's targets for the first most
// arguments; -1 means all.
func (a *app) completeNodes(most int) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if most >= 0 && len(args) >= most {
			return nil, none
		}
		given := map[string]bool{}
		for _, arg := range args {
			given[arg] = true
		}
		var out []cobra.Completion
		a.ask(cmd, func(ctx context.Context, c *control.Client) error {
			res, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{})
			for _, t := range res.GetTargets() {
				if strings.HasPrefix(t.GetNode(), prefix) && !given[t.GetNode()] {
					out = append(out, cobra.CompletionWithDesc(sane(t.GetNode()), sane(t.GetState())))
				}
				for _, topology := range t.GetTopologies() {
					if name, ok := strings.CutPrefix(topology, sandboxTopology); ok && strings.HasPrefix(name, prefix) && !given[name] {
						out = append(out, cobra.CompletionWithDesc(sane(name), "sandbox"))
					}
				}
			}
			return err
		})
		return out, none
	}
}

// completeProcess offers a node, then names and pids of its processes.
func (a *app) completeProcess(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 {
		return a.completeNodes(1)(cmd, args, prefix)
	}
	if len(args) > 1 {
		return nil, none
	}
	var out []cobra.Completion
	a.ask(cmd, func(ctx context.Context, c *control.Client) error {
		r, err := a.collect(ctx, c, &controlpb.ListProcessesRequest{Nodes: args[:1], Filter: prefix, Limit: 200})
		if err != nil {
			return err
		}
		for _, p := range r.rows {
			names := []string{p.RegisteredName, short(p.RegisteredName), p.Pid, strings.Trim(p.Pid, "<>")}
			for _, name := range names[:] {
				if name != "" && strings.HasPrefix(name, prefix) {
					out = append(out, cobra.CompletionWithDesc(sane(name), sane(short(p.InitialCall))))
					break
				}
			}
		}
		return nil
	})
	return out, none
}

// completeMembers offers the members.
func (a *app) completeMembers(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, prefix, func(ctx context.Context, c *control.Client, offer func(word, about string)) error {
		res, err := c.Cluster.ListMembers(ctx, &controlpb.ListMembersRequest{})
		for _, m := range res.GetMembers() {
			offer(m.GetName(), m.GetState())
		}
		return err
	})
}

// completeChildren offers the ids of children.
func (a *app) completeChildren(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, prefix, func(ctx context.Context, c *control.Client, offer func(word, about string)) error {
		stream, err := c.Children.ListChildren(ctx, &controlpb.ListChildrenRequest{Prefix: prefix, Limit: 200})
		if err != nil {
			return err
		}
		for {
			res, err := stream.Recv()
			if err != nil {
				return err
			}
			for _, child := range res.GetChildren() {
				offer(child.GetId(), child.GetState())
			}
		}
	})
}

// completeAllChildren offers children for each of several arguments, those that are
// named already left out.
func (a *app) completeAllChildren(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	out, how := a.completeChildren(cmd, nil, prefix)
	return slices.DeleteFunc(out, func(c cobra.Completion) bool {
		id, _, _ := strings.Cut(c, "\t")
		return slices.Contains(args, id)
	}), how
}

// forFlag uses what completes a first argument for the value of a flag.
func forFlag(f completer) completer {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return f(cmd, nil, prefix)
	}
}

// completeKeyIDs offers the ids of the cluster keys.
func (a *app) completeKeyIDs(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, prefix, func(ctx context.Context, c *control.Client, offer func(word, about string)) error {
		res, err := c.Cluster.ListKeys(ctx, &controlpb.ListKeysRequest{})
		for _, k := range res.GetKeys() {
			offer(k.GetKeyId(), "known to "+strings.Join(k.GetMembers(), " "))
		}
		return err
	})
}

// completeKeys offers keys of the registry.
func (a *app) completeKeys(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, prefix, func(ctx context.Context, c *control.Client, offer func(word, about string)) error {
		stream, err := c.Registry.List(ctx, &controlpb.ListEntriesRequest{Prefix: prefix, Limit: 200})
		if err != nil {
			return err
		}
		for {
			res, err := stream.Recv()
			if err != nil {
				return err
			}
			for _, e := range res.GetEntries() {
				offer(e.GetKey(), ownerText(e.GetOwner()))
			}
		}
	})
}

// completeFirst completes the first argument with what the running debughost
// offers.
func (a *app) completeFirst(cmd *cobra.Command, args []string, prefix string,
	words func(ctx context.Context, c *control.Client, offer func(word, about string)) error,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	if len(args) == 0 {
		a.ask(cmd, func(ctx context.Context, c *control.Client) error {
			return words(ctx, c, func(word, about string) {
				if strings.HasPrefix(word, prefix) {
					out = append(out, cobra.CompletionWithDesc(sane(word), sane(about)))
				}
			})
		})
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// ask is withClient for a shell that waits: short, and without a word.
func (a *app) ask(cmd *cobra.Command, do func(context.Context, *control.Client) error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	addr, err := a.address()
	if err != nil {
		return
	}
	c, err := control.Dial(ctx, addr)
	if err != nil {
		return
	}
	defer c.Close()
	_ = do(ctx, c)
}
