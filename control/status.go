package control

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
)

// GetStatus tells of this member and, unless the question came from another
// member or is for this one alone, what all others say.
func (s *memberService) GetStatus(ctx context.Context, req *controlpb.GetStatusRequest) (*controlpb.GetStatusResponse, error) {
	res := s.ownStatus()
	if s.cluster == nil {
		return res, nil
	}
	res.Cluster = s.clusterStatus()
	children, draining := childrenOfMembers(s.children)
	res.Members = []*controlpb.MemberStatus{s.memberStatus(res)}
	if req.GetLocal() || callerFrom(ctx).Forwarded {
		childrenIn(res.GetMembers(), children, draining)
		return res, nil
	}
	answers, failed := s.forward.others(ctx, controlpb.Member_GetStatus_FullMethodName, &controlpb.GetStatusRequest{Local: true})
	sights := res.Members[0].GetSeenBy()
	for _, m := range s.cluster.Members() {
		if m.Self {
			continue
		}
		one := &controlpb.MemberStatus{}
		if a, ok := answers[m.Name].(*controlpb.GetStatusResponse); ok && len(a.GetMembers()) > 0 {
			one = a.GetMembers()[0]
			sights = append(sights, one.GetSeenBy()...)
		} else if err := failed[m.Name]; err != nil {
			e := describe("", err)
			one.Error = &controlpb.NodeError{Error: clean(e.Cause), Hint: clean(e.Hint), Code: string(e.Code)}
		}
		view(one, m)
		res.Members = append(res.Members, one)
	}
	for _, one := range res.Members {
		one.SeenBy = nil
		for _, sight := range sights {
			if sight.GetName() == one.GetName() && sight.GetMember() != one.GetName() {
				one.SeenBy = append(one.SeenBy, sight)
			}
		}
		slices.SortFunc(one.SeenBy, func(a, b *controlpb.Sight) int { return cmp.Compare(a.GetMember(), b.GetMember()) })
	}
	childrenIn(res.GetMembers(), children, draining)
	slices.SortFunc(res.Members, func(a, b *controlpb.MemberStatus) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return res, nil
}

// childrenIn puts into the members' status what this member's books say of their
// children, so that a member which does not answer has a figure, too.
func childrenIn(members []*controlpb.MemberStatus, children map[string]uint32, draining []string) {
	for _, m := range members {
		m.Children, m.Draining = children[m.GetName()], slices.Contains(draining, m.GetName())
	}
}

// view puts into a member's status what this member knows of it.
func view(one *controlpb.MemberStatus, m cluster.Member) {
	one.Name, one.State, one.Since, one.Address = clean(m.Name), string(m.State), timePB(m.Since), clean(m.Addr)
	one.Version = cmp.Or(one.GetVersion(), clean(m.Version))
}

func (s *memberService) clusterStatus() *controlpb.ClusterStatus {
	q := s.cluster.Quorum()
	st := &controlpb.ClusterStatus{Size: uint32(q.Size), Alive: uint32(q.Alive), Quorum: q.Has, Need: uint32(q.Need)}
	for _, m := range s.cluster.Members() {
		switch {
		case m.State == cluster.Dead || m.State == cluster.Unreachable:
			st.Missing = append(st.Missing, clean(m.Name))
		case m.State.Usable() && m.Version != "":
			st.Versions = append(st.Versions, clean(m.Version))
		}
	}
	slices.Sort(st.Missing)
	slices.Sort(st.Versions)
	if st.Versions = slices.Compact(st.Versions); len(st.Versions) == 1 {
		st.Versions = nil
	}
	st.PartitionSuspected = len(st.Missing) > 0
	return st
}

// memberStatus is this member's own line, with what it sees of the others.
func (s *memberService) memberStatus(res *controlpb.GetStatusResponse) *controlpb.MemberStatus {
	lag, cpu := s.meter.read()
	one := &controlpb.MemberStatus{
		Name: res.GetMember(), State: string(cluster.Alive), Version: res.GetVersion(), Started: res.GetStarted(), Rss: res.GetRss(),
		Load: loadAverage(), Cpu: cpu, EventLoopLag: durationpb.New(lag), Quorum: res.GetCluster().GetQuorum(),
		Targets: map[string]uint32{}, Plugins: map[string]uint32{}, Clock: timestamppb.Now(),
	}
	for _, t := range s.engine.Targets() {
		if t.Owner == res.GetMember() {
			one.Targets[string(t.State)]++
		}
	}
	for _, p := range res.GetPlugins() {
		one.Plugins[p.GetState()]++
	}
	if s.registry != nil {
		one.RegistryLag = s.registry.Stats().Lag
	}
	for _, m := range s.cluster.Members() {
		if m.Self {
			view(one, m)
			continue
		}
		var contact *timestamppb.Timestamp
		if !m.LastContact.IsZero() {
			contact = timestamppb.New(m.LastContact)
		}
		one.SeenBy = append(one.SeenBy, &controlpb.Sight{
			Member: res.GetMember(), Name: clean(m.Name), State: string(m.State), LastContact: contact,
		})
	}
	return one
}

// rss is the resident memory of this process in bytes; 0 where /proc does not
// tell (man 5 proc, statm: the second number, in pages).
func rss() uint64 {
	pages, err := strconv.ParseUint(procField("/proc/self/statm", 1), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// loadAverage is that of the machine over the last minute; 0 where /proc does
// not tell.
func loadAverage() float64 {
	load, err := strconv.ParseFloat(procField("/proc/loadavg", 0), 64)
	if err != nil {
		return 0
	}
	return load
}

// procField is one of the words in a file of /proc.
func procField(path string, i int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	f := bytes.Fields(b)
	if len(f) <= i {
		return ""
	}
	return string(f[i])
}
