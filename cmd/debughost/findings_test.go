package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/target"
)

// finder answers Diagnose and Snapshot for a test.
type finder struct {
	control.Questions
	m         *member
	diagnoses map[string]target.Diagnosis
	snapshots map[string]target.Snapshot
	failed    []target.NodeError
}

func (f *finder) Diagnose(_ context.Context, q target.DiagnoseQuery, out target.Answers[target.Diagnosis]) {
	f.m.note(q)
	for n, d := range f.diagnoses {
		out.Answer(n, d)
	}
	for _, e := range f.failed {
		out.Failed(e)
	}
}

func (f *finder) Snapshot(_ context.Context, q target.SnapshotQuery, out target.Answers[target.Snapshot]) {
	f.m.note(q)
	for _, n := range q.Nodes {
		if s, ok := f.snapshots[n]; ok {
			out.Answer(n, s)
		}
	}
	for _, e := range f.failed {
		out.Failed(e)
	}
}

func finding(t *testing.T, f *finder) *member {
	m := &member{targets: []target.Info{{Node: "shop@db1", State: target.Attached}, {Node: "old@db1", State: target.Gone}}}
	f.m = m
	m.options = func(o *control.Options) { o.Questions = f }
	return serve(t, m)
}

func ailing() *finder {
	return &finder{
		diagnoses: map[string]target.Diagnosis{"shop@db1": {
			Findings: []target.Finding{
				{
					Severity: target.SeverityCritical, Kind: target.KindMailbox, Subject: "Elixir.Shop.Mailer <0.114.0>", Weight: 182311,
					Evidence: "182311 messages wait, 252 a second more; it runs Elixir.Shop.Mailer:await/1", Next: "debughost inspect shop@db1 Shop.Mailer --messages 5",
				},
				{Severity: target.SeverityInfo, Kind: target.KindAlone, Subject: "evil\x1b[2J:f/1", Evidence: "3 processes", Next: "debughost inspect shop@db1 0.9.0"},
			},
			Skipped: []string{"2 of 90 supervisors did not answer in time"},
		}},
		failed: []target.NodeError{{Node: "mail@db2", Err: hinted("no answer in time", "--timeout waits longer")}},
	}
}

func TestDiagnose(t *testing.T) {
	m := finding(t, ailing())
	golden(t, "diagnose-table", m.do("diagnose"))
	golden(t, "diagnose-json", m.do("diagnose", "-o", "json"))
	golden(t, "diagnose-csv", m.do("diagnose", "-o", "csv"))

	r := m.do("diagnose", "shop@db1", "--window", "3s", "--deep", "--limit", "5", "--timeout", "7s")
	assert.Equal(t, exitPartial, r.code)
	q := m.last().(target.DiagnoseQuery)
	assert.Equal(t, target.DiagnoseQuery{Ask: target.Ask{Nodes: []string{"shop@db1"}, Timeout: 7 * time.Second}, Window: 3 * time.Second, Deep: true, Limit: 5}, q)
	m.do("diagnose", "--gc", "--monitor", "5s")
	q = m.last().(target.DiagnoseQuery)
	assert.True(t, q.GC && q.Monitor == 5*time.Second && !q.Force)
	m.do("diagnose", "--monitor", "5s", "--force")
	assert.True(t, m.last().(target.DiagnoseQuery).Force)

	r = commandWith(func(a *app) { a.outTTY = true }, "--addr", m.addr, "diagnose")
	assert.Contains(t, r.out, "\x1b[1;31mcritical \x1b[0m shop@db1")
	assert.NotContains(t, r.out, "\x1b[2J")

	for _, wrong := range [][]string{{"--window", "0s"}, {"--window", "2m"}, {"--monitor", "-1s"}, {"--monitor", "1h"}, {"--limit", "1000"}, {"--force"}} {
		assert.Equal(t, exitUsage, m.do(append([]string{"diagnose"}, wrong...)...).code, wrong)
	}
}

func TestDiagnoseWell(t *testing.T) {
	well := &finder{diagnoses: map[string]target.Diagnosis{"shop@db1": {}}}
	m := finding(t, well)
	assert.Equal(t, result{exitDone, "", "note: nothing found: the node looks well\n"}, m.do("diagnose"))
	assert.Equal(t, result{exitDone, "{\"findings\":[],\"errors\":[]}\n", ""}, m.do("diagnose", "-o", "json"))
	well.diagnoses["cart@db2"] = target.Diagnosis{}
	assert.Equal(t, "note: nothing found: 2 nodes look well\n", m.do("diagnose").err)

	well.failed = []target.NodeError{{Node: "mail@db2", Err: hinted("no answer in time", "wait")}}
	r := m.do("diagnose")
	assert.Equal(t, exitPartial, r.code)
	assert.Contains(t, r.err, "nothing found: 2 nodes look well\ndebughost: ask mail@db2: no answer in time\nhint: wait\n")
	assert.Equal(t, exitPartial, m.do("diagnose", "-o", "json").code)
	well.diagnoses = nil
	r = m.do("diagnose")
	assert.Equal(t, exitFailed, r.code)
	assert.NotContains(t, r.err, "well")
	well.failed = nil
	r = m.do("diagnose")
	assert.Equal(t, exitDone, r.code)
	assert.True(t, strings.HasPrefix(r.err, "note: no node is attached"), r.err)
}
