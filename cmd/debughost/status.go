package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

type statusJSON struct {
	Member     string            `json:"member"`
	Version    string            `json:"version"`
	Node       string            `json:"node"`
	OSPid      int64             `json:"os_pid"`
	Started    *time.Time        `json:"started"`
	ConfigFile string            `json:"config_file"`
	DataDir    string            `json:"data_dir"`
	RSS        uint64            `json:"rss"`
	Targets    map[string]uint32 `json:"targets"`
	Topologies []topologyJSON    `json:"topologies"`
	Plugins    []pluginStateJSON `json:"plugins"`
	Warnings   []string          `json:"warnings"`
	Children   map[string]uint32 `json:"children"`
	Cluster    clusterJSON       `json:"cluster"`
	Members    []memberStateJSON `json:"members"`
}

type topologyJSON struct {
	Name     string     `json:"name"`
	Strategy string     `json:"strategy"`
	State    string     `json:"state"`
	Reason   string     `json:"reason"`
	Nodes    uint32     `json:"nodes"`
	Updated  *time.Time `json:"updated"`
}

// pluginStateJSON has more than the contract's pluginJSON.
type pluginStateJSON struct {
	pluginJSON
	Reason   string     `json:"reason"`
	Restarts uint32     `json:"restarts"`
	Since    *time.Time `json:"since"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how debughost is: targets by state, topologies, plugins, members, warnings",
		Long: `Show how the debughost that is asked is: its targets by state, topologies, plugins
and warnings; and how the members of its cluster are, each asked by it. A member
that should answer and does not costs its own line only: what is known of it from
others is shown, its error is told, and the exit code is 3.`,
		Example: `  debughost status
  debughost status -o json`,
		Args:        exactArgs(),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), a.status)
		},
	}
}

func (a *app) status(ctx context.Context, c *control.Client) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	st, err := c.Member.GetStatus(ctx, &controlpb.GetStatusRequest{})
	if err != nil {
		return err
	}
	if a.output == asJSON {
		row := statusRow(st)
		err = writeJSON(a.out, struct { // at the top as well as below "status", where it used to be
			statusJSON
			Status statusJSON `json:"status"`
		}{row, row})
	} else {
		err = a.printStatus(st)
	}
	if err != nil {
		return err
	}
	var failed []*controlpb.MemberError
	for _, m := range st.GetMembers() {
		if e := m.GetError(); e != nil && (m.GetState() == "alive" || m.GetState() == "suspect") {
			failed = append(failed, &controlpb.MemberError{Member: m.GetName(), Error: e.GetError(), Hint: e.GetHint()})
		}
	}
	return a.memberErrors(failed)
}

func statusRow(st *controlpb.GetStatusResponse) statusJSON {
	r := statusJSON{
		Member: st.GetMember(), Version: st.GetVersion(), Node: st.GetNode(), OSPid: st.GetOsPid(),
		Started: timeRow(st.GetStarted()), ConfigFile: st.GetConfigFile(), DataDir: st.GetDataDir(),
		RSS: st.GetRss(), Targets: map[string]uint32{}, Children: map[string]uint32{}, Topologies: []topologyJSON{},
		Plugins: []pluginStateJSON{}, Warnings: append([]string{}, st.GetWarnings()...),
		Cluster: clusterRow(st.GetCluster()), Members: memberStateRows(st.GetMembers()),
	}
	maps.Copy(r.Children, st.GetChildren())
	for state, n := range st.GetTargets() {
		r.Targets[state] = n
	}
	for _, t := range st.GetTopologies() {
		r.Topologies = append(r.Topologies, topologyJSON{
			t.GetName(), t.GetStrategy(), t.GetState(), t.GetReason(), t.GetNodes(), timeRow(t.GetUpdated()),
		})
	}
	for _, p := range st.GetPlugins() {
		r.Plugins = append(r.Plugins, pluginStateJSON{pluginRow(p), p.GetReason(), p.GetRestarts(), timeRow(p.GetSince())})
	}
	return r
}

func timeRow(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	v := t.AsTime()
	return &v
}

func (a *app) printStatus(st *controlpb.GetStatusResponse) error {
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("member", fmt.Sprintf("%s, %s, pid %d", st.GetMember(), st.GetVersion(), st.GetOsPid()))
	if st.GetStarted() != nil {
		w.fact("up", age(a.now().Sub(st.GetStarted().AsTime())))
	}
	w.fact("node", st.GetNode())
	config := st.GetConfigFile()
	if config == "" {
		config = "built-in defaults"
	}
	w.fact("config", config)
	w.fact("data", st.GetDataDir())
	if st.GetRss() > 0 {
		w.fact("memory", size(st.GetRss()))
	}
	w.fact("targets", targetCounts(st.GetTargets()))
	w.fact("children", counts(st.GetChildren(), control.ChildStates()))
	if c := st.GetCluster(); c != nil {
		w.fact("cluster", clusterText(c))
		if len(c.GetVersions()) > 0 {
			w.fact("versions", "members differ: "+strings.Join(c.GetVersions(), ", "))
		}
	}
	if len(st.GetMembers()) > 1 {
		w.WriteByte('\n')
		if err := a.memberStateGrid(st.GetMembers()).write(w, a.width(), a.colors()); err != nil {
			return err
		}
	}
	if len(st.GetTopologies()) > 0 {
		g := newGrid(column{name: "topology"}, column{name: "strategy"}, column{name: "state"},
			column{name: "nodes", right: true}, column{name: "updated", right: true}, column{name: "reason", free: true})
		for _, t := range st.GetTopologies() {
			g.add(t.GetName(), t.GetStrategy(), t.GetState(), decimal(uint64(t.GetNodes())),
				a.ago(t.GetUpdated()), t.GetReason())
		}
		w.WriteByte('\n')
		if err := g.write(w, a.width(), a.colors()); err != nil {
			return err
		}
	}
	if len(st.GetPlugins()) > 0 {
		w.WriteByte('\n')
		if err := a.pluginGrid(st.GetPlugins()).write(w, a.width(), a.colors()); err != nil {
			return err
		}
	}
	for i, s := range st.GetWarnings() {
		if i == 0 {
			w.WriteByte('\n')
		}
		fmt.Fprintf(w, "warning: %s\n", sane(s))
	}
	return w.Flush()
}

// targetCounts lists the states in the order of a target's life.
func targetCounts(targets map[string]uint32) string {
	return orElse(counts(targets, []string{"attached", "connecting", "discovered", "unreachable", "refused", "gone"}), "none")
}

// counts lists the states that are there, in the order that is given.
func counts(n map[string]uint32, states []string) string {
	var parts []string
	for _, s := range states {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

func (a *app) ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return age(a.now().Sub(t.AsTime())) + " ago"
}
