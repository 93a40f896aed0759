package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// appJSON is an application in JSON; its keys are a contract.
type appJSON struct {
	Node        string `json:"node"`
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description"`
	State       string `json:"state"`
	StartType   string `json:"start_type"`
	Processes   uint64 `json:"processes"`
	Memory      uint64 `json:"memory"`
}

// envJSON is an entry of an application's environment in JSON.
type envJSON struct {
	Node        string `json:"node"`
	Application string `json:"application"`
	Key         string `json:"key"`
	Value       string `json:"value"`
	Truncated   bool   `json:"truncated"`
}

func (a *app) appsCommand() *cobra.Command {
	var env bool
	req := &controlpb.GetEnvironmentRequest{}
	cmd := &cobra.Command{
		Use:   "apps [NODE…] | apps --env NODE APP",
		Short: "Show the applications of nodes, or the environment of one",
		Long: `Show the applications that are loaded on the nodes that are named, or on all, with
how many processes each has and their memory. Processes belong to an application
by their group leader; those of the emulator itself belong to none.

With --env, show the environment of one application. Values that may be secret are
taken out on the node, before anything leaves it: those under a key that contains
pass, pwd, secret, token, key, cookie, credential, private, salt, sign…, dsn or
bearer, however deep, and what URLs and connection strings carry.`,
		Example: `  debughost apps shop@db1
  debughost apps -o json | jq -r '.apps[] | select(.state == "running") | "\(.name) \(.version)"' | sort | uniq -c
  debughost apps --env shop@db1 ecto`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if env && len(args) > 0 {
				return a.completeApp(cmd, args, prefix)
			}
			return a.completeNodes(-1)(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !env {
				ask := &controlpb.ListApplicationsRequest{Nodes: args, Timeout: a.targetTimeout()}
				return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
					return a.apps(ctx, c, ask)
				})
			}
			if err := exactArgs("NODE", "APP")(cmd, args); err != nil {
				return err
			}
			switch req.GetSyntax() {
			case "auto", "erlang", "elixir":
			default:
				return usagef("apps: syntax %q is none of auto, erlang, elixir", req.GetSyntax())
			}
			req.Node, req.Application, req.Timeout = args[0], args[1], a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.environment(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&env, "env", false, "the environment of one application, without secrets")
	fl.StringVar(&req.Syntax, "syntax", "auto", "of printed terms: auto, erlang or elixir")
	fl.Uint32Var(&req.MaxBytes, "max-bytes", 4096, "where each printed term is cut")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

func (a *app) apps(ctx context.Context, c *control.Client, req *controlpb.ListApplicationsRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Systems.ListApplications(ctx, req)
	if err != nil {
		return err
	}
	l := listing[appJSON]{
		plural: "apps", errors: res.GetErrors(), note: "no node is attached",
		header: []string{"node", "name", "version", "description", "state", "start_type", "processes", "memory"},
		csv: func(r appJSON) []string {
			return []string{r.Node, r.Name, r.Version, r.Description, r.State, r.StartType, decimal(r.Processes), decimal(r.Memory)}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "name", least: 12}, {name: "version"}, {name: "state"}, {name: "start_type", spare: 2},
			{name: "processes", right: true}, {name: "memory", right: true}, {name: "description", least: 12, tail: true, spare: 1},
		},
		cells: func(r appJSON) []string {
			memory := ""
			if r.Processes > 0 {
				memory = size(r.Memory)
			}
			return []string{r.Node, short(r.Name), r.Version, r.State, r.StartType, decimal(r.Processes), memory, r.Description}
		},
	}
	for _, r := range res.GetApplications() {
		l.rows = append(l.rows, appJSON{
			r.GetNode(), r.GetName(), r.GetVersion(), r.GetDescription(), r.GetState(), r.GetStartType(), r.GetProcesses(), r.GetMemory(),
		})
	}
	return printListing(a, l)
}

func (a *app) environment(ctx context.Context, c *control.Client, req *controlpb.GetEnvironmentRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Systems.GetEnvironment(ctx, req)
	if err != nil {
		return err
	}
	l := listing[envJSON]{
		plural: "env", note: res.GetApplication() + " has no environment",
		header: []string{"node", "application", "key", "value", "truncated"},
		csv: func(r envJSON) []string {
			return []string{r.Node, r.Application, r.Key, r.Value, yes(r.Truncated)}
		},
		grid: []column{{name: "key"}, {name: "value", free: true}},
		cells: func(r envJSON) []string {
			value := strings.Join(strings.Fields(r.Value), " ")
			if r.Truncated {
				value += " … (cut)"
			}
			return []string{short(r.Key), value}
		},
	}
	for _, e := range res.GetEntries() {
		l.rows = append(l.rows, envJSON{res.GetNode(), res.GetApplication(), e.GetKey(), e.GetValue(), e.GetTruncated()})
	}
	err = printListing(a, l)
	if shown := uint64(len(l.rows)); res.GetTotal() > shown {
		a.note("%s has %d entries, %d are shown", res.GetApplication(), res.GetTotal(), shown)
	}
	return err
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// completeApp offers a node, then its applications.
func (a *app) completeApp(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 {
		return a.completeNodes(1)(cmd, args, prefix)
	}
	if len(args) > 1 {
		return nil, none
	}
	var out []cobra.Completion
	a.ask(cmd, func(ctx context.Context, c *control.Client) error {
		res, err := c.Systems.ListApplications(ctx, &controlpb.ListApplicationsRequest{Nodes: args[:1]})
		for _, r := range res.GetApplications() {
			if strings.HasPrefix(r.GetName(), prefix) {
				out = append(out, cobra.CompletionWithDesc(sane(r.GetName()), sane(r.GetState())))
			}
		}
		return err
	})
	return out, none
}
