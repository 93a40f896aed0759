package control

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

func (f fakeQuestions) Diagnose(_ context.Context, q target.DiagnoseQuery, out target.Answers[target.Diagnosis]) {
	for _, n := range q.Nodes {
		if n[:3] == "bad" {
			out.Failed(target.NodeError{Node: n, Err: target.ErrTimeout})
			continue
		}
		d := target.Diagnosis{Skipped: []string{f.m.name}, State: target.NodeState{OTPRelease: "27", Apps: map[string]string{"shop": f.m.name}, Connected: []string{"n1@h", "n2@h"}}}
		d.Findings = []target.Finding{
			{Severity: target.SeverityCritical, Kind: target.KindMailbox, Subject: "queue\xff", Weight: float64(len(f.m.name))},
			{Severity: target.SeverityInfo, Kind: target.KindAlone, Subject: "lone", Evidence: q.Window.String(), Next: q.Monitor.String()},
		}
		out.Answer(n, d)
	}
}

func (f fakeQuestions) Snapshot(_ context.Context, q target.SnapshotQuery, out target.Answers[target.Snapshot]) {
	for _, n := range q.Nodes {
		out.Answer(n, target.Snapshot{
			Taken: time.Unix(1, 0), OTPRelease: "27", Uptime: time.Minute, Memory: []target.Amount{{Name: "total", Value: 1}},
			Counts: []target.Amount{{Name: "atoms", Value: 2}}, Limits: []target.Amount{{Name: "atoms", Value: 3}},
			Apps: map[string]string{"shop": "1"}, Groups: []target.ProcessGroup{{InitialCall: "m:f/1", Count: 4}}, AllGroups: 9,
			Processes: []target.Process{{Pid: "<0.1.0>", Memory: 5}}, Tables: []target.TableGroup{{Name: f.m.name, Size: uint64(q.Limit)}}, AllTables: 8,
		})
	}
}

func TestFindings(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("a", "n1@h")
	c.own("b", "n2@h", "bad@h")
	client := c.members["a"].dial(t).Findings
	res, err := client.Diagnose(t.Context(), &controlpb.DiagnoseRequest{Window: durationpb.New(2 * time.Second)})
	require.NoError(t, err)
	require.Len(t, res.GetErrors(), 1)
	assert.Equal(t, "bad@h", res.GetErrors()[0].GetNode())
	require.Len(t, res.GetFindings(), 4)
	require.Len(t, res.GetFacts(), 2)
	ranked := RankFindings(res)
	var lines []string
	for _, f := range ranked {
		lines = append(lines, f.GetSeverity()+" "+f.GetNode()+" "+f.GetKind()+" "+f.GetSubject())
	}
	assert.Equal(t, []string{
		"critical n1@h mailbox queue\uFFFD", "critical n2@h mailbox queue\uFFFD",
		"warning n1@h versions n2@h",
		"info n1@h unsupervised lone", "info n2@h unsupervised lone",
	}, lines)
	assert.Equal(t, "2s", ranked[4].GetEvidence())

	// What acts on a target is Probe's.
	_, err = client.Diagnose(t.Context(), &controlpb.DiagnoseRequest{Gc: true})
	requireCode(t, err, BadRequest)
	_, err = client.Diagnose(t.Context(), &controlpb.DiagnoseRequest{Monitor: durationpb.New(time.Second)})
	requireCode(t, err, BadRequest)
	res, err = client.Probe(t.Context(), &controlpb.DiagnoseRequest{Nodes: []string{"n2@h"}, Gc: true, Monitor: durationpb.New(time.Second)})
	require.NoError(t, err)
	assert.Equal(t, "1s", res.GetFindings()[1].GetNext())

	for _, wrong := range []*controlpb.DiagnoseRequest{
		{Window: durationpb.New(time.Hour)}, {Monitor: durationpb.New(time.Hour)}, {Limit: 1000}, {Timeout: durationpb.New(-1)},
	} {
		_, err = client.Probe(t.Context(), wrong)
		requireCode(t, err, BadRequest)
	}
}

func TestTakeSnapshot(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("a", "n1@h")
	c.own("b", "n2@h")
	client := c.members["a"].dial(t).Findings
	res, err := client.TakeSnapshot(t.Context(), &controlpb.TakeSnapshotRequest{Limit: 7})
	require.NoError(t, err)
	require.Len(t, res.GetSnapshots(), 2)
	s := res.GetSnapshots()[1]
	assert.Equal(t, "n2@h", s.GetNode())
	assert.Equal(t, "b", s.GetTables()[0].GetName())
	assert.Equal(t, uint64(7), s.GetTables()[0].GetSize())
	assert.Equal(t, uint64(60_000), s.GetUptimeMs())
	assert.Equal(t, int64(1), s.GetTaken().AsTime().Unix())
	assert.Equal(t, uint64(4), s.GetGroups()[0].GetCount())
	assert.Equal(t, "<0.1.0>", s.GetProcesses()[0].GetPid())
	_, err = client.TakeSnapshot(t.Context(), &controlpb.TakeSnapshotRequest{Limit: 100_000})
	requireCode(t, err, BadRequest)
	_, err = client.TakeSnapshot(t.Context(), &controlpb.TakeSnapshotRequest{Timeout: durationpb.New(-1)})
	requireCode(t, err, BadRequest)
}

func TestDisagreements(t *testing.T) {
	facts := func(node, otp string, apps map[string]string, connected, known string) *controlpb.NodeFacts {
		f := &controlpb.NodeFacts{Node: node, OtpRelease: otp, Apps: apps}
		if connected != "" {
			f.Connected = []string{connected}
		}
		if known != "" {
			f.Known = []string{known}
		}
		return f
	}
	one := map[string]string{"shop": "1", "stdlib": "5", "only_a": "1"}
	two := map[string]string{"shop": "2", "stdlib": "6"}
	many := func(v string) map[string]string {
		return map[string]string{"a": v, "b": v, "c": v, "d": v, "e": v, "f": v, "g": v}
	}
	for _, c := range []struct {
		name string
		a, b *controlpb.NodeFacts
		want string // severity, node, kind, evidence; empty: nothing
	}{
		{"strangers", facts("a@h", "25", one, "", ""), facts("b@h", "27", two, "", ""), ""},
		{"one knows the other", facts("a@h", "27", one, "", "b@h"), facts("b@h", "27", one, "", ""), ""},
		{"connected and alike", facts("a@h", "27", one, "b@h", "b@h"), facts("b@h", "27", one, "a@h", "a@h"), ""},
		{"other application", facts("a@h", "27", one, "b@h", ""), facts("b@h", "27", map[string]string{"shop": "2", "stdlib": "5"}, "a@h", ""),
			"warning a@h versions it and b@h are connected and run shop 1 and 2"},
		{"other OTP", facts("a@h", "25", one, "b@h", ""), facts("b@h", "27", two, "a@h", ""),
			"warning a@h versions it and b@h are connected and run OTP 25 and 27, shop 1 and 2"},
		{"many", facts("a@h", "27", many("1"), "b@h", ""), facts("b@h", "27", many("2"), "a@h", ""),
			"warning a@h versions it and b@h are connected and run a 1 and 2, b 1 and 2, c 1 and 2, d 1 and 2, e 1 and 2, 2 more"},
		{"split", facts("a@h", "27", one, "", "b@h"), facts("b@h", "27", one, "", "a@h"),
			"critical a@h netsplit it and b@h know each other and are not connected; both answer debughost"},
		{"one side", facts("a@h", "27", one, "b@h", "b@h"), facts("b@h", "27", one, "", "a@h"),
			"warning a@h netsplit it is connected to b@h, which is not connected to it"},
		{"the other side", facts("a@h", "27", one, "", ""), facts("b@h", "27", one, "a@h", ""),
			"warning b@h netsplit it is connected to a@h, which is not connected to it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := RankFindings(&controlpb.DiagnoseResponse{Facts: []*controlpb.NodeFacts{c.a, c.b}})
			if c.want == "" {
				assert.Empty(t, all)
				return
			}
			require.Len(t, all, 1)
			f := all[0]
			assert.Equal(t, c.want, f.GetSeverity()+" "+f.GetNode()+" "+f.GetKind()+" "+f.GetEvidence())
			assert.NotEmpty(t, f.GetNext())
		})
	}
}
