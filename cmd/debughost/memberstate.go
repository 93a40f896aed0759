package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
)

// clusterJSON is the cluster in JSON; size, alive and quorum are a contract.
type clusterJSON struct {
	Size               uint32   `json:"size"`
	Alive              uint32   `json:"alive"`
	Quorum             bool     `json:"quorum"`
	Need               uint32   `json:"need"`
	PartitionSuspected bool     `json:"partition_suspected"`
	Missing            []string `json:"missing"`
	Versions           []string `json:"versions"` // where members differ
}

// memberStateJSON is how a member is; what only itself can tell is null or
// empty where there is an error.
type memberStateJSON struct {
	Name           string            `json:"name"`
	State          string            `json:"state"`
	Since          *time.Time        `json:"since"`
	Address        string            `json:"address"`
	Version        string            `json:"version"`
	Started        *time.Time        `json:"started"`
	RSS            uint64            `json:"rss"`
	Load           float64           `json:"load"`
	CPU            float64           `json:"cpu"`
	Targets        map[string]uint32 `json:"targets"`
	Plugins        map[string]uint32 `json:"plugins"`
	EventLoopLagMS float64           `json:"event_loop_lag_ms"`
	SeenBy         []sightJSON       `json:"seen_by"`
	RegistryLag    map[string]uint64 `json:"registry_lag"`
	Quorum         bool              `json:"quorum"`
	Children       uint32            `json:"children"` // that are assigned to it
	Draining       bool              `json:"draining"`
	Error          string            `json:"error,omitempty"`
}

// sightJSON is what another member says of one.
type sightJSON struct {
	Member      string     `json:"member"`
	State       string     `json:"state"`
	LastContact *time.Time `json:"last_contact"`
}

func clusterRow(c *controlpb.ClusterStatus) clusterJSON {
	return clusterJSON{
		c.GetSize(), c.GetAlive(), c.GetQuorum(), c.GetNeed(), c.GetPartitionSuspected(),
		append([]string{}, c.GetMissing()...), append([]string{}, c.GetVersions()...),
	}
}

func memberStateRows(members []*controlpb.MemberStatus) []memberStateJSON {
	out := []memberStateJSON{}
	for _, m := range members {
		r := memberStateJSON{
			Name: m.GetName(), State: m.GetState(), Since: timeRow(m.GetSince()), Address: m.GetAddress(), Version: m.GetVersion(),
			Started: timeRow(m.GetStarted()), RSS: m.GetRss(), Load: m.GetLoad(), CPU: m.GetCpu(),
			Targets: map[string]uint32{}, Plugins: map[string]uint32{}, RegistryLag: map[string]uint64{},
			EventLoopLagMS: float64(m.GetEventLoopLag().AsDuration()) / float64(time.Millisecond),
			SeenBy:         []sightJSON{}, Quorum: m.GetQuorum(), Children: m.GetChildren(), Draining: m.GetDraining(), Error: m.GetError().GetError(),
		}
		maps.Copy(r.Targets, m.GetTargets())
		maps.Copy(r.Plugins, m.GetPlugins())
		maps.Copy(r.RegistryLag, m.GetRegistryLag())
		for _, s := range m.GetSeenBy() {
			r.SeenBy = append(r.SeenBy, sightJSON{s.GetMember(), s.GetState(), timeRow(s.GetLastContact())})
		}
		out = append(out, r)
	}
	return out
}

// clusterText is the cluster in one line.
func clusterText(c *controlpb.ClusterStatus) string {
	quorum := "quorum"
	if !c.GetQuorum() {
		quorum = fmt.Sprintf("no quorum (%d needed): what needs one is refused", c.GetNeed())
	}
	text := fmt.Sprintf("%d of %d members, %s", c.GetAlive(), c.GetSize(), quorum)
	if c.GetPartitionSuspected() {
		text += "; a partition is suspected, missing: " + strings.Join(c.GetMissing(), ", ")
	}
	return text
}

// memberStateGrid has a line for each member. What is worth a look is
// highlighted.
func (a *app) memberStateGrid(members []*controlpb.MemberStatus) *grid {
	const stateCol, lagCol, contactCol, registryCol = 1, 7, 8, 9
	g := newGrid(
		column{name: "member", least: 10}, column{name: "state"}, column{name: "since", right: true},
		column{name: "version", least: 8}, column{name: "up", right: true}, column{name: "load", right: true},
		column{name: "memory", right: true}, column{name: "timers_late", right: true}, column{name: "last_contact", right: true},
		column{name: "registry_lag", right: true}, column{name: "children", right: true}, column{name: "targets"}, column{name: "plugins"}, column{name: "error", free: true},
	)
	for _, m := range members {
		var since, up, load, memory, late, lag string
		if m.GetSince() != nil {
			since = age(a.now().Sub(m.GetSince().AsTime()))
		}
		var behind uint64
		for _, n := range m.GetRegistryLag() {
			behind = max(behind, n)
		}
		targets, plugins := "", ""
		if m.GetStarted() != nil { // it answered
			up = age(a.now().Sub(m.GetStarted().AsTime()))
			load, memory = fmt.Sprintf("%.2f", m.GetLoad()), size(m.GetRss())
			late, lag = m.GetEventLoopLag().AsDuration().Round(100*time.Microsecond).String(), decimal(behind)
			targets, plugins = targetCounts(m.GetTargets()), pluginCounts(m.GetPlugins())
		}
		state := m.GetState()
		if m.GetDraining() {
			state += ", draining"
		}
		g.add(m.GetName(), state, since, m.GetVersion(), up, load, memory, late, a.contactText(m), lag, decimal(uint64(m.GetChildren())), targets, plugins, m.GetError().GetError())
		if m.GetState() != "alive" && m.GetState() != "left" {
			g.highlight(stateCol)
		}
		if m.GetEventLoopLag().AsDuration() > 100*time.Millisecond {
			g.highlight(lagCol)
		}
		if seenBadly(m) {
			g.highlight(contactCol)
		}
		if behind > 0 {
			g.highlight(registryCol)
		}
	}
	return g
}

// contactText is the oldest of the last contacts that others had with a member,
// and who does not see it as alive, where it is.
func (a *app) contactText(m *controlpb.MemberStatus) string {
	var oldest *controlpb.Sight
	for _, s := range m.GetSeenBy() {
		if s.GetLastContact() != nil && (oldest == nil || s.GetLastContact().AsTime().Before(oldest.GetLastContact().AsTime())) {
			oldest = s
		}
	}
	text := ""
	if oldest != nil {
		text = age(a.now().Sub(oldest.GetLastContact().AsTime()))
	}
	for _, s := range m.GetSeenBy() {
		if s.GetState() != m.GetState() {
			text += fmt.Sprintf(" (%s: %s)", s.GetMember(), s.GetState())
		}
	}
	return strings.TrimSpace(text)
}

// seenBadly tells whether members disagree about one.
func seenBadly(m *controlpb.MemberStatus) bool {
	return slices.ContainsFunc(m.GetSeenBy(), func(s *controlpb.Sight) bool { return s.GetState() != m.GetState() })
}

// pluginCounts lists the states that are there, in the order of a plugin's life.
func pluginCounts(plugins map[string]uint32) string {
	var parts []string
	for _, s := range []string{"running", "starting", "restarting", "failed", "stopped"} {
		if n := plugins[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}
