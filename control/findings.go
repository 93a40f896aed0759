package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// findingsService asks nodes what is wrong with them, and what they are.
type findingsService struct {
	controlpb.UnimplementedFindingsServer
	ask Questions
}

func (s *findingsService) Diagnose(ctx context.Context, req *controlpb.DiagnoseRequest) (*controlpb.DiagnoseResponse, error) {
	const tried = "diagnose nodes"
	if req.GetGc() || req.GetMonitor() != nil || req.GetForce() {
		return nil, badRequest(tried, "gc, monitor and force act on a target: Probe does that")
	}
	return s.diagnose(ctx, tried, req)
}

func (s *findingsService) Probe(ctx context.Context, req *controlpb.DiagnoseRequest) (*controlpb.DiagnoseResponse, error) {
	return s.diagnose(ctx, "probe nodes", req)
}

func (s *findingsService) diagnose(ctx context.Context, tried string, req *controlpb.DiagnoseRequest) (*controlpb.DiagnoseResponse, error) {
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	if err != nil {
		return nil, err
	}
	window, err := duration(tried, "window", req.GetWindow(), target.MaxDiagnoseWindow)
	if err != nil {
		return nil, err
	}
	monitor, err := duration(tried, "monitor", req.GetMonitor(), target.MaxMonitor)
	if err != nil {
		return nil, err
	}
	if req.GetLimit() > target.MaxFindings {
		return nil, badRequest(tried, "%d findings of each kind are wanted, %d may be", req.GetLimit(), target.MaxFindings)
	}
	res := &controlpb.DiagnoseResponse{}
	q := target.DiagnoseQuery{Ask: ask, Window: window, Limit: int(req.GetLimit()), Deep: req.GetDeep(), GC: req.GetGc(), Monitor: monitor, Force: req.GetForce()}
	s.ask.Diagnose(ctx, q, answersTo(&res.Errors, func(node string, d target.Diagnosis) {
		for _, f := range d.Findings {
			res.Findings = append(res.Findings, findingPB(node, f))
		}
		res.Facts = append(res.Facts, &controlpb.NodeFacts{
			Node: clean(node), OtpRelease: clean(d.State.OTPRelease), Apps: cleanMap(d.State.Apps),
			Connected: cleanAll(d.State.Connected), Known: cleanAll(d.State.Known), Skipped: cleanAll(d.Skipped),
		})
	}))
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}

func (s *findingsService) TakeSnapshot(ctx context.Context, req *controlpb.TakeSnapshotRequest) (*controlpb.TakeSnapshotResponse, error) {
	const tried = "take a snapshot"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	switch {
	case err != nil:
		return nil, err
	case req.GetLimit() > target.MaxSnapshotRows:
		return nil, badRequest(tried, "%d rows of each node are wanted, %d may be", req.GetLimit(), target.MaxSnapshotRows)
	}
	res := &controlpb.TakeSnapshotResponse{}
	s.ask.Snapshot(ctx, target.SnapshotQuery{Ask: ask, Limit: int(req.GetLimit())},
		answersTo(&res.Errors, func(node string, s target.Snapshot) { res.Snapshots = append(res.Snapshots, snapshotPB(node, s)) }))
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}

func findingPB(node string, f target.Finding) *controlpb.Finding {
	return &controlpb.Finding{
		Severity: string(f.Severity), Node: clean(node), Kind: f.Kind, Subject: clean(f.Subject),
		Evidence: clean(f.Evidence), Next: clean(f.Next), Weight: f.Weight,
	}
}

func snapshotPB(node string, s target.Snapshot) *controlpb.NodeSnapshot {
	out := &controlpb.NodeSnapshot{
		Node: clean(node), Taken: timestamppb.New(s.Taken), OtpRelease: clean(s.OTPRelease), UptimeMs: uint64(s.Uptime.Milliseconds()),
		Memory: amountsPB(s.Memory), Counts: amountsPB(s.Counts), Limits: amountsPB(s.Limits),
		Apps: cleanMap(s.Apps), Connected: cleanAll(s.Connected), GroupsTotal: s.AllGroups, TablesTotal: s.AllTables,
	}
	for _, g := range s.Groups {
		out.Groups = append(out.Groups, &controlpb.SnapshotGroup{
			InitialCall: clean(g.InitialCall), Count: g.Count, Memory: g.Memory, MessageQueueLen: g.MessageQueueLen, Reductions: g.Reductions,
		})
	}
	for _, p := range s.Processes {
		out.Processes = append(out.Processes, &controlpb.SnapshotProcess{
			Pid: p.Pid, RegisteredName: clean(p.RegisteredName), InitialCall: clean(p.InitialCall),
			Memory: p.Memory, MessageQueueLen: p.MessageQueueLen, Reductions: p.Reductions,
		})
	}
	for _, t := range s.Tables {
		out.Tables = append(out.Tables, &controlpb.SnapshotTable{Name: clean(t.Name), Count: t.Count, Size: t.Size, Memory: t.Memory})
	}
	return out
}

func amountsPB(all []target.Amount) []*controlpb.NamedValue {
	out := make([]*controlpb.NamedValue, 0, len(all))
	for _, a := range all {
		out = append(out, &controlpb.NamedValue{Name: clean(a.Name), Value: a.Value})
	}
	return out
}

func cleanMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[clean(k)] = clean(v)
	}
	return out
}

// RankFindings adds to an answer what only the facts of all its nodes together
// show, and puts the worst of the whole cluster first. It is for clients: an
// answer is put together of those of several members.
func RankFindings(res *controlpb.DiagnoseResponse) []*controlpb.Finding {
	all := append(slices.Clone(res.GetFindings()), disagreements(res.GetFacts())...)
	slices.SortStableFunc(all, func(a, b *controlpb.Finding) int {
		return cmp.Or(target.CompareFindings(findingOf(a), findingOf(b)), cmp.Compare(a.GetNode(), b.GetNode()))
	})
	return all
}

func findingOf(f *controlpb.Finding) target.Finding {
	return target.Finding{Severity: target.Severity(f.GetSeverity()), Kind: f.GetKind(), Subject: f.GetSubject(), Weight: f.GetWeight()}
}

// disagreements are findings about pairs of nodes: not connected though they know
// each other, or connected with different versions.
func disagreements(facts []*controlpb.NodeFacts) []*controlpb.Finding {
	var out []*controlpb.Finding
	for i, a := range facts {
		for _, b := range facts[i+1:] {
			ab, ba := slices.Contains(a.GetConnected(), b.GetNode()), slices.Contains(b.GetConnected(), a.GetNode())
			switch {
			case ab != ba:
				from, to := a, b
				if ba {
					from, to = b, a
				}
				out = append(out, split(from, to, target.SeverityWarning, fmt.Sprintf("it is connected to %s, which is not connected to it", to.GetNode())))
			case ab:
				out = append(out, versions(a, b)...)
			case slices.Contains(a.GetKnown(), b.GetNode()) && slices.Contains(b.GetKnown(), a.GetNode()):
				out = append(out, split(a, b, target.SeverityCritical, fmt.Sprintf("it and %s know each other and are not connected; both answer debughost", b.GetNode())))
			}
		}
	}
	return out
}

func split(a, b *controlpb.NodeFacts, severity target.Severity, evidence string) *controlpb.Finding {
	return findingPB(a.GetNode(), target.Finding{
		Severity: severity, Kind: target.KindNetsplit, Subject: b.GetNode(), Evidence: evidence, Next: "debughost system " + target.ShellWord(a.GetNode()) + " " + target.ShellWord(b.GetNode()),
	})
}

// maxVersions is how many applications one finding names.
const maxVersions = 5

func versions(a, b *controlpb.NodeFacts) []*controlpb.Finding {
	var differ []string
	if a.GetOtpRelease() != b.GetOtpRelease() {
		differ = append(differ, fmt.Sprintf("OTP %s and %s", a.GetOtpRelease(), b.GetOtpRelease()))
	}
	otp := len(differ) > 0 // then its own applications differ, too, and say no more
	for _, app := range slices.Sorted(maps.Keys(a.GetApps())) {
		va, vb := a.GetApps()[app], b.GetApps()[app]
		if vb == "" || va == vb || otp && slices.Contains(otpApps, app) {
			continue
		}
		differ = append(differ, fmt.Sprintf("%s %s and %s", app, va, vb))
	}
	if len(differ) == 0 {
		return nil
	}
	n := len(differ)
	if n > maxVersions {
		differ = append(differ[:maxVersions], fmt.Sprintf("%d more", n-maxVersions))
	}
	return []*controlpb.Finding{findingPB(a.GetNode(), target.Finding{
		Severity: target.SeverityWarning, Kind: target.KindVersions, Subject: b.GetNode(), Weight: float64(n),
		Evidence: fmt.Sprintf("it and %s are connected and run %s", b.GetNode(), strings.Join(differ, ", ")),
		Next:     "debughost apps " + target.ShellWord(a.GetNode()) + " " + target.ShellWord(b.GetNode()),
	})}
}

// otpApps are applications of OTP that a release nearly always has.
var otpApps = []string{
	"asn1", "compiler", "crypto", "erts", "eunit", "ftp", "inets", "kernel", "mnesia", "os_mon", "parsetools", "public_key",
	"runtime_tools", "sasl", "ssh", "ssl", "stdlib", "syntax_tools", "tools", "xmerl",
}
