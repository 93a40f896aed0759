package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/doctor"
)

// someChecks are one of each state.
var someChecks = []doctor.Check{
	{Name: "config", State: doctor.OK, Detail: "/etc/debughost/config.toml is in order"},
	{Name: "host name", State: doctor.Warn, Detail: "db1 does not resolve\x1b[2J", Hint: "add it to /etc/hosts"},
	{Name: "cookie", State: doctor.Fail, Detail: "none", Hint: "copy it there"},
}

func TestDoctorFormats(t *testing.T) {
	for _, format := range []string{table, asJSON, asCSV} {
		var out strings.Builder
		a := newApp(nil, &out, &out)
		a.output = format
		assert.Equal(t, errPrinted, a.printChecks(someChecks))
		golden(t, "doctor-"+format, result{code: exitFailed, out: out.String()})
	}
	var out strings.Builder
	a := newApp(nil, &out, &out)
	assert.NoError(t, a.printChecks(someChecks[:2]), "a warning is no failure")
}

// doctorConfig has a mistake, so that nothing of this machine decides the test.
func doctorConfig(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte("x = 1\n"), 0o600))
	return path
}

func TestDoctor(t *testing.T) {
	m := shop(t)
	r := m.do("doctor", "--config", doctorConfig(t), "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	for _, want := range []string{
		`{"name":"config","state":"fail","detail":"`, "config.toml:1: x: unknown key",
		`{"name":"member","state":"ok","detail":"m1 runs as debughost-1a2b3c4d@db1, version `,
		`{"name":"running plugin discovery-epmd","state":"ok","detail":"version v0.1.0, process 4711","hint":""}`,
		`{"name":"running plugin discovery-x","state":"fail","detail":"failed: exit status 1, five times"`,
		`{"name":"target cart@db2","state":"warn","detail":"refused: wrong cookie","hint":"set [targets] cookie_file"}`,
		`{"name":"targets","state":"warn","detail":"attached: 1, cannot be: 2","hint":""}`,
		`{"name":"warning","state":"warn","detail":"the data directory is read-only"`,
	} {
		assert.Contains(t, r.out, want)
	}
	none := filepath.Join(t.TempDir(), "none.sock")
	r = command("--addr", none, "doctor", "--config", doctorConfig(t))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, "warn   member")
	assert.Contains(t, r.out, "→ is debughost running?")
	r = command("--addr", "tcp://x:1", "doctor")
	assert.Equal(t, exitUsage, r.code)
	r = command("doctor", "x")
	assert.Equal(t, exitUsage, r.code)
}

// Where the configuration has the socket elsewhere, it is looked for there.
func TestDoctorFindsTheSocket(t *testing.T) {
	m := shop(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte("metrics.address = ''\napi.socket = '"+m.addr+"'\n[topologies]\n"), 0o600))
	r := command("doctor", "--config", path)
	assert.Contains(t, r.out, "m1 runs as debughost-1a2b3c4d@db1")
	assert.Contains(t, r.out, "no topology is configured")
}

func TestDoctorOnMembers(t *testing.T) {
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(d)) }
	d := &diagnosis{}
	st := &controlpb.GetStatusResponse{
		Member: "a", Version: "v0", Cluster: &controlpb.ClusterStatus{Size: 8, Alive: 3, Need: 5, Versions: []string{"v0", "v1"}},
		Plugins:    []*controlpb.Plugin{{Name: "p", State: "restarting", Reason: "it fell"}},
		Topologies: []*controlpb.Topology{{Name: "t", State: "running", Reason: "EPMD of db9: no answer"}},
		Members: []*controlpb.MemberStatus{
			{Name: "a", State: "alive", Clock: at(0)},
			{Name: "b", State: "alive", Address: "b:7946", Clock: at(20 * time.Millisecond)},
			{Name: "c", State: "suspect", Clock: at(-3 * time.Second)},
			{Name: "d", State: "alive", Clock: at(2 * time.Minute)},
			{Name: "e", State: "dead", Address: "e:7946"},
			{Name: "f", State: "alive", Error: &controlpb.NodeError{Error: "no answer", Hint: "look"}},
			{Name: "g", State: "left"},
		},
	}
	d.member(st)
	d.strategies(st)
	d.targets(nil)
	d.targets([]*controlpb.Target{{State: "attached"}})
	d.members(st)
	d.clocks(st, 10*time.Millisecond)
	d.clocks(&controlpb.GetStatusResponse{}, 0)
	var got []string
	for _, c := range d.checks {
		got = append(got, string(c.State)+" "+c.Name+": "+c.Detail)
	}
	assert.Equal(t, []string{
		"warn member: a runs version v0, and this command is of " + thisVersion().Version,
		"warn running plugin p: restarting: it fell",
		"warn topology t: its last look failed: EPMD of db9: no answer",
		"warn targets: no node was found",
		"ok targets: attached: 1",
		"ok member b: alive, at b:7946",
		"warn member c: suspect, at ",
		"ok member d: alive, at ",
		"fail member e: dead, at e:7946",
		"fail member f: alive, but it does not answer: no answer",
		"warn versions: members run different versions: v0, v1",
		"fail quorum: 3 of 8 members answer, 5 are needed",
		"ok clock of b: no more than 30ms from a's",
		"warn clock of c: 2.99s behind a's",
		"fail clock of d: 1m59.99s ahead of a's",
	}, got)
}
