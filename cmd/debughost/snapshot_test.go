package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// shopThen is a node with something of everything, shopNow the same an hour later.
func shopThen() target.Snapshot {
	return target.Snapshot{
		Taken: noon, OTPRelease: "27", Uptime: time.Hour,
		Memory: []target.Amount{{Name: "total", Value: 100_000_000}, {Name: "ets", Value: 5_000_000}},
		Counts: []target.Amount{{Name: "processes", Value: 400}, {Name: "atoms", Value: 10_000}},
		Limits: []target.Amount{{Name: "processes", Value: 262_144}},
		Apps:   map[string]string{"shop": "1.0", "old_dep": "0.1", "stdlib": "5.2"},
		Groups: []target.ProcessGroup{
			{InitialCall: "Elixir.Shop.Session:init/1", Count: 100, Memory: 2_000_000, MessageQueueLen: 3},
			{InitialCall: "Elixir.Shop.Gone:init/1", Count: 1, Memory: 3000},
		}, AllGroups: 2,
		Processes: []target.Process{{Pid: "<0.114.0>", RegisteredName: "Elixir.Shop.Mailer", Memory: 400_000, MessageQueueLen: 10}, {Pid: "<0.9.0>", InitialCall: "x:y/1", Memory: 1}},
		Tables:    []target.TableGroup{{Name: "carts", Count: 1, Size: 1000, Memory: 1_000_000}, {Name: "small", Count: 1, Size: 1, Memory: 1000}}, AllTables: 9,
	}
}

func shopNow() target.Snapshot {
	s := shopThen()
	s.Taken, s.Uptime = noon.Add(time.Hour), 2*time.Hour
	s.Memory = []target.Amount{{Name: "total", Value: 150_000_000}, {Name: "ets", Value: 4_000_000}}
	s.Counts = []target.Amount{{Name: "processes", Value: 400}, {Name: "atoms", Value: 30_000}}
	s.Apps = map[string]string{"shop": "1.1", "new_dep": "2", "stdlib": "5.2"}
	s.Groups = []target.ProcessGroup{
		{InitialCall: "Elixir.Shop.Session:init/1", Count: 300, Memory: 6_000_000, MessageQueueLen: 3},
		{InitialCall: "Elixir.Shop.New:init/1", Count: 2, Memory: 9000},
	}
	s.Processes = []target.Process{{Pid: "<0.114.0>", RegisteredName: "Elixir.Shop.Mailer", Memory: 800_000, MessageQueueLen: 900}, {Pid: "<0.99.0>", InitialCall: "x:y/1", Memory: 1}}
	s.Tables = []target.TableGroup{{Name: "carts", Count: 1, Size: 5000, Memory: 4_000_000}, {Name: "big", Count: 2, Size: 7, Memory: 3000}, {Name: "hardly", Count: 1, Memory: 900}}
	return s
}

func TestSnapshotAndDiff(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	f := &finder{snapshots: map[string]target.Snapshot{"shop@db1": shopThen()}}
	m := finding(t, f)
	r := m.do("snapshot")
	require.Equal(t, exitDone, r.code, r.err)
	const name = "debughost-20260131T120000Z.snapshot"
	assert.Regexp(t, "^wrote "+name+`: 1 node, [3-7]\d\d B\n$`, r.out)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	assert.Equal(t, []string{"shop@db1"}, m.last().(target.SnapshotQuery).Nodes, "nodes that are gone are not asked")

	r = m.do("snapshot")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "it is there already\nhint: -f takes another name")

	f.snapshots["shop@db1"] = shopNow()
	f.snapshots["new@db1"] = target.Snapshot{Taken: noon, Uptime: time.Minute}
	r = m.do("snapshot", "new@db1", "shop@db1", "-f", "after", "-o", "json", "--limit", "7")
	require.Equal(t, exitDone, r.code, r.err)
	assert.Equal(t, 7, m.last().(target.SnapshotQuery).Limit)
	var done struct {
		Snapshot snapshotJSON    `json:"snapshot"`
		Errors   []nodeErrorJSON `json:"errors"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &done))
	assert.Equal(t, []string{"new@db1", "shop@db1"}, done.Snapshot.Nodes)
	assert.NotNil(t, done.Errors)

	shown := map[string]result{
		"diff-table": command("diff", name, "after"), "diff-json": command("diff", name, "after", "-o", "json"),
		"diff-csv": command("diff", name, "after", "-o", "csv", "--limit", "2"),
	}
	back := command("diff", "after", name)
	assert.Contains(t, back.out, "new@db1")
	assert.Contains(t, back.out, "gone")
	same := command("diff", name, name)
	assert.Equal(t, "", same.out)
	assert.Contains(t, same.err, "note: nothing has changed\n")

	now := m.do("diff", name)
	assert.Equal(t, exitDone, now.code, now.err)
	assert.Contains(t, now.out, "carts")
	f.failed = []target.NodeError{{Node: "shop@db1", Err: hinted("no answer in time", "wait")}}
	delete(f.snapshots, "shop@db1")
	now = m.do("diff", name)
	assert.Equal(t, exitFailed, now.code)
	assert.NotContains(t, now.out, "gone", "a node that failed may be there")
	t.Chdir(here) // where the golden files are
	for file, r := range shown {
		golden(t, file, r)
	}
}

func TestSnapshotFails(t *testing.T) {
	dir := t.TempDir()
	f := &finder{failed: []target.NodeError{{Node: "shop@db1", Err: hinted("no answer in time", "wait")}}}
	m := finding(t, f)
	file := filepath.Join(dir, "s")
	r := m.do("snapshot", "-f", file)
	assert.Equal(t, result{exitFailed, "", "debughost: ask shop@db1: no answer in time\nhint: wait\n"}, r)
	assert.NoFileExists(t, file)
	r = m.do("snapshot", "-f", file, "-o", "json")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.out, `"snapshot": null`)
	assert.Equal(t, exitUsage, m.do("snapshot", "-o", "csv").code)
	assert.Equal(t, exitUsage, m.do("snapshot", "--limit", "100000").code)

	f.snapshots = map[string]target.Snapshot{"shop@db1": shopThen()}
	assert.Equal(t, exitPartial, m.do("snapshot", "-f", file).code)
	assert.FileExists(t, file)
	assert.Equal(t, exitFailed, m.do("snapshot", "-f", filepath.Join(dir, "no", "such")).code)
	m.targets, f.failed = nil, nil
	r = m.do("snapshot", "-f", filepath.Join(dir, "none"))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "no node is known")
}

// packed compresses lines as a snapshot does.
func packed(lines ...string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fmt.Fprint(z, strings.Join(lines, "\n")+"\n")
	z.Close()
	return b.Bytes()
}

const header = `{"debughost_snapshot":1,"taken":"2026-01-31T12:00:00Z","debughost":"v1","later":true}`

func TestReadSnapshot(t *testing.T) {
	whole := packed(header, `{"node":"a@h","later":{"x":1},"tables":[{"name":"t","memory":"5"}]}`, `{"node":"b@h"}`, `{"end":2}`)
	s, err := readSnapshot(bytes.NewReader(whole), "f")
	require.NoError(t, err)
	assert.Equal(t, noon, s.taken)
	assert.Len(t, s.nodes, 2)
	assert.Equal(t, uint64(5), s.nodes[0].GetTables()[0].GetMemory())

	for n := range len(whole) { // wherever it is cut
		_, err := readSnapshot(bytes.NewReader(whole[:n]), "f")
		require.Error(t, err, n)
	}
	many := append([]string{header}, slicesOf(`{"node":"a@h"}`, maxSnapshotNodes+1)...)
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"empty", nil, "this is no snapshot of debughost"},
		{"text", []byte("hello"), "this is no snapshot of debughost"},
		{"another gzip", packed("hello"), "this is no snapshot of debughost"},
		{"another JSON", packed(`{"a":1}`), "this is no snapshot of debughost"},
		{"a later format", packed(`{"debughost_snapshot":2}`), "it has version 2 of the format, and this debughost reads version 1"},
		{"no end", packed(header, `{"node":"a@h"}`), "it is cut short after 1 nodes"},
		{"a node is missing", packed(header, `{"node":"a@h"}`, `{"end":2}`), "it has 1 nodes and says 2"},
		{"garbage", packed(header, `{"node":7}`, `{"end":1}`), "line 2 is no node"},
		{"more behind", packed(header, `{"end":0}`, `{"node":"a@h"}`), "it is damaged at its end"},
		{"too many", packed(many...), "it has more than 10000 nodes"},
		{"damaged", append(bytes.Clone(whole[:len(whole)-5]), 1, 2, 3, 4, 5), "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readSnapshot(bytes.NewReader(c.bytes), "f")
			require.ErrorContains(t, err, "read snapshot f: ")
			assert.ErrorContains(t, err, c.want)
		})
	}
	r := command("diff", filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "read snapshot: open ")
	assert.Equal(t, exitUsage, command("diff").code)
	assert.Equal(t, exitUsage, command("diff", "a", "b", "c").code)
	assert.Equal(t, exitUsage, command("diff", "a", "--limit", "-1").code)
	file := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(file, []byte("hello"), 0o600))
	r = command("diff", file)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "this is no snapshot of debughost\nhint: `debughost snapshot` writes one\n")
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestRestarted(t *testing.T) {
	a, b := shopThen(), shopNow()
	b.Uptime = time.Minute
	f := &finder{snapshots: map[string]target.Snapshot{"shop@db1": a}}
	m := finding(t, f)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.Equal(t, exitDone, m.do("snapshot", "-f", first).code)
	f.snapshots["shop@db1"] = b
	require.Equal(t, exitDone, m.do("snapshot", "-f", second).code)
	r := command("diff", first, second)
	assert.Regexp(t, `shop@db1  node +shop@db1 +uptime +1h00m +1m00s +restarted`, r.out)
	assert.NotContains(t, r.out, "<0.114.0>", "its pids are others'")
}

func TestRowsThatAreCut(t *testing.T) {
	list := func(names ...string) (rows []row) {
		for i, n := range names {
			rows = append(rows, row{n, []uint64{uint64(100 - 10*i), 1}})
		}
		return rows
	}
	d := &nodeDiff{}
	d.rows("table", []string{"memory", "count"}, list("a", "b", "c"), list("b", "a", "d"), true, true)
	texts := []string{}
	for _, c := range d.out {
		texts = append(texts, fmt.Sprint(c.Subject, " ", c.Measure, " ", c.State, " ", c.Change))
	}
	assert.Equal(t, []string{"b memory changed 10", "a memory changed -10"}, texts, "c may be as large as the last row, and d may have been")
	d = &nodeDiff{}
	d.rows("table", []string{"memory", "count"}, list("a", "b", "c"), list("x", "y"), true, true)
	texts = nil
	for _, c := range d.out {
		texts = append(texts, fmt.Sprint(c.Subject, " ", c.Measure, " ", c.State, " ", c.Change))
	}
	assert.ElementsMatch(t, []string{"x memory risen 20", "y memory risen 10", "a memory fallen -10"}, texts)
}

func TestAtMost(t *testing.T) {
	var all []change
	for i := range 10 {
		all = append(all, change{Kind: "table", Measure: "memory", Change: int64(5 - i)})
	}
	kept, cut := atMost(all, 4)
	assert.Equal(t, 6, cut)
	var changes []int64
	for _, c := range kept {
		changes = append(changes, c.Change)
	}
	assert.Equal(t, []int64{5, 4, -3, -4}, changes)
}

// FuzzReadSnapshot: nothing in a file makes the reader fail but with an error,
// and what it takes can be written and compared.
func FuzzReadSnapshot(f *testing.F) {
	f.Add([]byte(header + "\n{\"node\":\"a@h\"}\n{\"end\":1}\n"))
	f.Add([]byte(header + "\n{\"node\":\"a@h\",\"taken\":\"2026-01-31T12:00:00Z\",\"groups\":[{\"initial_call\":\"m:f/1\",\"memory\":\"18446744073709551615\"}]}\n{\"end\":1}\n"))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = readSnapshot(bytes.NewReader(text), "raw")
		s, err := readSnapshot(bytes.NewReader(packed(strings.TrimSuffix(string(text), "\n"))), "packed")
		if err != nil {
			return
		}
		var b bytes.Buffer
		require.NoError(t, s.encode(&b, "v1"))
		again, err := readSnapshot(&b, "again")
		require.NoError(t, err)
		require.Len(t, again.nodes, len(s.nodes))
		for _, c := range compareSnapshots(&snapshot{nodes: []*controlpb.NodeSnapshot{}}, s, nil) {
			_ = c.changeText()
		}
		for _, c := range compareSnapshots(s, again, nil) {
			_ = c.changeText()
		}
	})
}
