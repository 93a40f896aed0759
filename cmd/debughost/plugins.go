package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// pluginJSON is a plugin in JSON; its keys are a contract. The pid is that of
// the operating system's process, 0 while there is none.
type pluginJSON struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Version string `json:"version"`
	Pid     int64  `json:"pid"`
}

func (a *app) pluginsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plugins",
		Short: "Show the plugin processes and their states",
		Example: `  debughost plugins
  debughost events --follow --type plugin_exited --type plugin_failed`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), a.plugins)
		},
	}
}

func (a *app) plugins(ctx context.Context, c *control.Client) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Member.ListPlugins(ctx, &controlpb.ListPluginsRequest{})
	if err != nil {
		return err
	}
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("plugins")
		for _, p := range res.GetPlugins() {
			if err := l.item(pluginRow(p)); err != nil {
				return err
			}
		}
		return l.close()
	case asCSV:
		header := []string{"name", "kind", "state", "version", "pid"}
		return a.writeCSV(header, func(write func(...string) error) error {
			for _, p := range res.GetPlugins() {
				if err := write(p.GetName(), p.GetKind(), p.GetState(), p.GetVersion(), decimal(uint64(p.GetPid()))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := a.pluginGrid(res.GetPlugins()).write(a.out, a.width(), a.colors()); err != nil {
		return err
	}
	if len(res.GetPlugins()) == 0 {
		a.note("no plugin is configured")
	}
	return nil
}

func pluginRow(p *controlpb.Plugin) pluginJSON {
	return pluginJSON{p.GetName(), p.GetKind(), p.GetState(), p.GetVersion(), p.GetPid()}
}

func (a *app) pluginGrid(plugins []*controlpb.Plugin) *grid {
	g := newGrid(column{name: "plugin"}, column{name: "kind"}, column{name: "state"}, column{name: "version"},
		column{name: "pid", right: true}, column{name: "restarts", right: true}, column{name: "since", right: true},
		column{name: "reason", free: true})
	for _, p := range plugins {
		pid, since := "", ""
		if p.GetPid() > 0 {
			pid = decimal(uint64(p.GetPid()))
		}
		if p.GetSince() != nil {
			since = age(a.now().Sub(p.GetSince().AsTime()))
		}
		g.add(p.GetName(), p.GetKind(), p.GetState(), p.GetVersion(), pid,
			decimal(uint64(p.GetRestarts())), since, p.GetReason())
		if p.GetState() == "failed" {
			g.highlight(2)
		}
	}
	return g
}
