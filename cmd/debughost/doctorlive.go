package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/doctor"
)

// How far the clocks of members may be apart. What two members claim at once is
// decided by them, and events are sorted by them.
const (
	skewSeen  = time.Second
	skewWrong = time.Minute
)

// mostTargets bounds how many targets get a line each.
const mostTargets = 20

// diagnosis collects what a running member says.
type diagnosis struct{ checks []doctor.Check }

func (d *diagnosis) add(name string, state doctor.State, hint, format string, args ...any) {
	d.checks = append(d.checks, doctor.Check{Name: name, State: state, Detail: fmt.Sprintf(format, args...), Hint: hint})
}

// examineMember asks the running member how it is and what it sees.
func (a *app) examineMember(ctx context.Context, c *control.Client) ([]doctor.Check, error) {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	asked := time.Now()
	st, err := c.Member.GetStatus(ctx, &controlpb.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	took := time.Since(asked)
	targets, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{})
	if err != nil {
		return nil, err
	}
	d := &diagnosis{}
	d.member(st)
	d.strategies(st)
	d.targets(targets.GetTargets())
	d.members(st)
	d.clocks(st, took)
	return d.checks, nil
}

func (d *diagnosis) member(st *controlpb.GetStatusResponse) {
	if own := thisVersion().Version; st.GetVersion() != own {
		d.add("member", doctor.Warn, "restart debughost after an upgrade", "%s runs version %s, and this command is of %s", st.GetMember(), st.GetVersion(), own)
	} else {
		d.add("member", doctor.OK, "", "%s runs as %s, version %s", st.GetMember(), st.GetNode(), own)
	}
	for _, w := range st.GetWarnings() {
		d.add("warning", doctor.Warn, "", "%s", w)
	}
}

func (d *diagnosis) strategies(st *controlpb.GetStatusResponse) {
	for _, p := range st.GetPlugins() {
		name := "running plugin " + p.GetName()
		switch p.GetState() {
		case "running":
			d.add(name, doctor.OK, "", "version %s, process %d", p.GetVersion(), p.GetPid())
		case "failed":
			d.add(name, doctor.Fail, "mend it, then `debughost config reload`", "failed: %s", p.GetReason())
		default:
			d.add(name, doctor.Warn, "`debughost plugins` shows it again", "%s: %s", p.GetState(), p.GetReason())
		}
	}
	for _, t := range st.GetTopologies() {
		if t.GetReason() != "" && t.GetState() == "running" {
			d.add("topology "+t.GetName(), doctor.Warn, "", "its last look failed: %s", t.GetReason())
		}
	}
}

// targets tells each that is not attached, with why.
func (d *diagnosis) targets(targets []*controlpb.Target) {
	attached, bad := 0, 0
	for _, t := range targets {
		switch t.GetState() {
		case "attached":
			attached++
		case "refused", "unreachable":
			if bad++; bad <= mostTargets {
				d.add("target "+t.GetNode(), doctor.Warn, t.GetHint(), "%s: %s", t.GetState(), t.GetReason())
			}
		}
	}
	switch {
	case len(targets) == 0:
		d.add("targets", doctor.Warn, "`debughost status` tells where it looks", "no node was found")
	case bad > 0:
		d.add("targets", doctor.Warn, "", "attached: %d, cannot be: %d", attached, bad)
	default:
		d.add("targets", doctor.OK, "", "attached: %d", attached)
	}
}

// members tells who is missing.
func (d *diagnosis) members(st *controlpb.GetStatusResponse) {
	for _, m := range st.GetMembers() {
		name := "member " + m.GetName()
		switch e := m.GetError(); {
		case m.GetName() == st.GetMember() || m.GetState() == "left":
		case m.GetState() == "dead" || m.GetState() == "unreachable":
			d.add(name, doctor.Fail, "start it, or, if it is gone for good, `debughost forget "+m.GetName()+"`; port 7946 or the one it has must be open for UDP and TCP",
				"%s, at %s", m.GetState(), m.GetAddress())
		case e != nil:
			d.add(name, doctor.Fail, e.GetHint(), "%s, but it does not answer: %s", m.GetState(), e.GetError())
		case m.GetState() == "suspect":
			d.add(name, doctor.Warn, "it missed a probe: is its machine overloaded, or UDP blocked?", "suspect, at %s", m.GetAddress())
		default:
			d.add(name, doctor.OK, "", "%s, at %s", m.GetState(), m.GetAddress())
		}
	}
	if v := st.GetCluster().GetVersions(); len(v) > 1 {
		d.add("versions", doctor.Warn, "upgrade the older members", "members run different versions: %s", strings.Join(v, ", "))
	}
	if c := st.GetCluster(); c.GetSize() > 1 && !c.GetQuorum() {
		d.add("quorum", doctor.Fail, "reads and local work go on; claims that need a majority are refused", "%d of %d members answer, %d are needed", c.GetAlive(), c.GetSize(), c.GetNeed())
	}
}

// clocks compares those of the others with the asked member's. They were read
// within the time that the answer took, which is given to them.
func (d *diagnosis) clocks(st *controlpb.GetStatusResponse, took time.Duration) {
	i := slices.IndexFunc(st.GetMembers(), func(m *controlpb.MemberStatus) bool { return m.GetName() == st.GetMember() })
	if i < 0 || st.GetMembers()[i].GetClock() == nil {
		return
	}
	own := st.GetMembers()[i].GetClock().AsTime()
	for _, m := range st.GetMembers() {
		if m.GetClock() == nil || m.GetName() == st.GetMember() {
			continue
		}
		skew := m.GetClock().AsTime().Sub(own)
		name, way := "clock of "+m.GetName(), "ahead of"
		if skew < 0 {
			way = "behind"
		}
		const hint = "an NTP client on each machine keeps their clocks together"
		switch off := skew.Abs() - took; {
		case off > skewWrong:
			d.add(name, doctor.Fail, hint, "%s %s %s's", off.Round(time.Millisecond), way, st.GetMember())
		case off > skewSeen:
			d.add(name, doctor.Warn, hint, "%s %s %s's", off.Round(time.Millisecond), way, st.GetMember())
		default:
			d.add(name, doctor.OK, "", "no more than %s from %s's", (skew.Abs() + took).Round(time.Millisecond), st.GetMember())
		}
	}
}
