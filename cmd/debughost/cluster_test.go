package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// clusterMember is the cluster, the registry and the keys of a member, made of a
// test's answers.
type clusterMember struct {
	members []cluster.Member
	quorum  cluster.Quorum
	forgot  string
	left    bool
	claim   registry.Claim
	entries []registry.Entry
	changes []control.Change
	acted   error
	keys    []control.KeyInfo
	added   string
}

func (c *clusterMember) Members() []cluster.Member   { return c.members }
func (c *clusterMember) Self() string                { return "m1" }
func (c *clusterMember) Changed() <-chan struct{}    { return nil }
func (c *clusterMember) Quorum() cluster.Quorum      { return c.quorum }
func (c *clusterMember) Leave(context.Context) error { c.left = true; return c.acted }
func (c *clusterMember) Forget(name string) error    { c.forgot = name; return c.acted }

func (c *clusterMember) Owner(node string) (string, string, error) { return node, "m1", nil }

func (c *clusterMember) Conn(string) (*grpc.ClientConn, error) { return nil, cluster.ErrMemberGone }

func (c *clusterMember) Register(_ context.Context, cl registry.Claim) (registry.Entry, error) {
	c.claim = cl
	return registry.Entry{Key: cl.Key, Value: cl.Value, Owner: cl.Owner, Origin: "m1", Duplicate: cl.Duplicate, TTL: cl.TTL, Since: noon}, c.acted
}

func (c *clusterMember) Unregister(string, *registry.Owner) (int, error) { return 1, c.acted }

func (c *clusterMember) Update(key string, owner *registry.Owner, f func([]byte) ([]byte, error)) (registry.Entry, error) {
	e := c.All(key)[0]
	var err error
	e.Value, err = f(e.Value)
	return e, err
}

func (c *clusterMember) Renew(string, time.Duration) (int, error) { return 2, c.acted }

func (c *clusterMember) All(key string) (out []registry.Entry) {
	for _, e := range c.entries {
		if e.Key == key {
			out = append(out, e)
		}
	}
	return out
}

func (c *clusterMember) Keys(o registry.Owner) (out []string) {
	for _, e := range c.entries {
		if e.Owner == o {
			out = append(out, e.Key)
		}
	}
	return out
}

func (c *clusterMember) Select(prefix string) iter.Seq[registry.Entry] {
	return func(yield func(registry.Entry) bool) {
		for _, e := range c.entries {
			if strings.HasPrefix(e.Key, prefix) && !yield(e) {
				return
			}
		}
	}
}

func (c *clusterMember) Watch(ctx context.Context, _ string) iter.Seq[control.Change] {
	return func(yield func(control.Change) bool) {
		for _, ch := range c.changes {
			if !yield(ch) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (c *clusterMember) Stats() control.RegistryStats {
	return control.RegistryStats{Lag: map[string]uint64{"db2": 3}}
}

// keyRing is the keys of a clusterMember.
type keyRing struct{ *clusterMember }

func (k keyRing) Keys() []control.KeyInfo { return k.keys }
func (k keyRing) AddKey(text string) (string, error) {
	k.added = text
	return "1a2b3c4d", k.acted
}
func (k keyRing) UseKey(string) error    { return k.acted }
func (k keyRing) RemoveKey(string) error { return k.acted }

// three is a member of three, one of which is dead.
func three(t *testing.T) (*member, *clusterMember) {
	c := &clusterMember{
		members: []cluster.Member{
			{Name: "m1", Addr: "10.0.0.1:7946", Version: "v1.0.0", State: cluster.Alive, Since: noon.Add(-time.Hour), Self: true},
			{Name: "db2", Addr: "10.0.0.2:7946", Version: "v1.0.1", State: cluster.Left, Since: noon.Add(-2 * time.Minute), LastContact: noon.Add(-2 * time.Minute)},
			{Name: "db3", Addr: "10.0.0.3:7946", Version: "v1.0.0", State: cluster.Dead, Since: noon.Add(-90 * time.Second), LastContact: noon.Add(-95 * time.Second)},
		},
		quorum: cluster.Quorum{Size: 2, Alive: 1, Need: 2},
		entries: []registry.Entry{
			{Key: "deploy", Value: []byte(`"v7"`), Owner: registry.ByLease("l-1"), Origin: "m1", TTL: 30 * time.Second, Since: noon.Add(-time.Second)},
			{Key: "leader", Value: []byte(`{"zone":"a"}`), Owner: registry.ByMember("m1"), Origin: "m1", Since: noon.Add(-time.Hour)},
			{Key: "worker\u202e", Value: []byte("not \x1b[2J JSON"), Owner: registry.ByPid("shop@db1", "<0.123.0>", 7), Origin: "db2", Duplicate: true, Since: noon.Add(-time.Minute)},
			{Key: "worker/child", Owner: registry.ByChild("sandbox-1"), Origin: "db2", Since: noon},
		},
		keys: []control.KeyInfo{{ID: "1a2b3c4d", Primary: true}, {ID: "9f8e7d6c"}},
	}
	m := &member{
		status:  control.Status{Member: "m1", Node: "debughost-1a2b3c4d@db1", Started: noon.Add(-time.Hour), DataDir: "/var/lib/debughost"},
		targets: []target.Info{{Node: "shop@db1", State: target.Attached, Owner: "m1"}, {Node: "cart@db2", State: target.Refused, Owner: "m1"}},
		plugins: []control.Plugin{{Name: "p", State: "running"}, {Name: "q", State: "failed"}},
		options: func(o *control.Options) { o.Cluster, o.Registry, o.Keys, o.Peers = c, c, keyRing{c}, c },
	}
	return serve(t, m), c
}

func TestMembers(t *testing.T) {
	m, _ := three(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "members-"+format, m.do("members", "-o", format))
	}
	alone := serve(t, &member{})
	assert.Contains(t, alone.do("members").err, "this debughost is in no cluster")
}

func TestStatusOfMembers(t *testing.T) {
	m, _ := three(t)
	r := m.do("status")
	require.Equal(t, exitDone, r.code, "a member that is dead does not fail: "+r.err)
	for _, want := range []string{
		"cluster             1 of 2 members, no quorum (2 needed): what needs one is refused; a partition is suspected, missing: db3\n",
		"MEMBER  STATE  SINCE", "db3     dead   1m30s  v1.0.0", "1 attached, 1 refused  1 running, 1 failed", "member db3 could not be reached",
	} {
		assert.Contains(t, r.out, want)
	}
	r = m.do("status", "-o", "json")
	var doc struct {
		Member  string
		Cluster struct {
			Size, Alive uint32
			Quorum      bool
			Missing     []string
		}
		Members []memberStateJSON
		Status  statusJSON
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &doc))
	assert.Equal(t, "m1 2 1 false [db3]", fmt.Sprint(doc.Member, " ", doc.Cluster.Size, " ", doc.Cluster.Alive, " ", doc.Cluster.Quorum, " ", doc.Cluster.Missing))
	require.Len(t, doc.Members, 3)
	assert.Equal(t, []string{"db2", "db3", "m1"}, []string{doc.Members[0].Name, doc.Members[1].Name, doc.Members[2].Name})
	assert.Equal(t, map[string]uint64{"db2": 3}, doc.Members[2].RegistryLag)
	assert.Equal(t, "m1", doc.Members[1].SeenBy[0].Member)
	assert.Contains(t, doc.Members[1].Error, "dead")
	assert.Equal(t, doc.Member, doc.Status.Member)
}

func TestLeaveAndForget(t *testing.T) {
	m, c := three(t)
	assert.Equal(t, result{exitDone, "m1 left the cluster\n", ""}, m.do("leave"))
	assert.True(t, c.left)
	assert.Equal(t, "{\n  \"left\": \"m1\"\n}\n", m.do("leave", "-o", "json").out)
	assert.Equal(t, result{exitDone, "db3 is forgotten\n", ""}, m.do("forget", "db3"))
	assert.Equal(t, "db3", c.forgot)
	assert.Contains(t, m.do("forget", "db3", "-o", "json").out, `"forgotten": "db3"`)
	r := m.do("forget", "m1")
	assert.Equal(t, result{exitFailed, "", "debughost: forget m1: it is running (alive)\nhint: `debughost leave` on it, or stop it first\n"}, r)
}

func TestRegister(t *testing.T) {
	m, c := three(t)
	r := m.do("registry", "register", "leader", "--value", `{ "zone": "b" }`)
	assert.Equal(t, result{exitDone, "registered leader for member m1, at m1\n", ""}, r)
	assert.Equal(t, registry.Claim{Key: "leader", Value: []byte(`{"zone":"b"}`), Owner: registry.ByMember("m1"), Consistency: registry.Local}, c.claim)

	r = m.do("registry", "register", "deploy", "--ttl", "30s", "--lease", "l 1", "--consistency", "quorum", "--force", "--duplicate")
	assert.Equal(t, "note: it goes in 30s unless it is renewed: debughost registry renew 'l 1'\n", r.err)
	assert.Equal(t, registry.Claim{
		Key: "deploy", Owner: registry.ByLease("l 1"), TTL: 30 * time.Second, Consistency: registry.Quorum, Force: true, Duplicate: true,
	}, c.claim)
	golden(t, "register-json", m.do("registry", "register", "orders", "--node", "shop@db1", "--pid", "0.12.0", "--value", "1", "-o", "json"))

	c.acted = &registry.TakenError{Holder: registry.Entry{Key: "leader", Owner: registry.ByMember("db2"), Origin: "db2", Since: noon}}
	r = m.do("registry", "register", "leader")
	assert.Equal(t, result{exitFailed, "", "debughost: register \"leader\": taken by member db2 at member db2 since 2026-01-31 12:00:00.000Z\n"}, r)
	c.acted = &registry.NoQuorumError{Key: "leader", Accepted: 1, Answered: 1, Visible: 1, Size: 2}
	r = m.do("registry", "register", "leader", "--consistency", "quorum")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "no quorum: 1 of 2 members agreed")
	assert.Contains(t, r.err, "--force does without them")
}

func TestRegistryUsage(t *testing.T) {
	for args, want := range map[string]string{
		"registry register":                                     "register: KEY is missing",
		"registry register k --value {":                         "--value is not JSON",
		"registry register k --consistency strong":              `consistency "strong" is none of`,
		"registry register k --node n":                          "--node and --pid together",
		"registry register k --pid p":                           "--node and --pid together",
		"registry register k --node n --pid p --ttl 1s":         "a process has none",
		"registry register k --ttl -1s":                         "ttl -1s is not between",
		"registry register k --lease l":                         "a lease needs a --ttl",
		"registry register k --ttl 1ms --addr tcp://x":          "tcp is not supported",
		"registry lookup":                                       "lookup: KEY is missing",
		"registry list a b":                                     "list: one argument too many",
		"registry unregister":                                   "unregister: KEY is missing",
		"registry update k":                                     "--value is missing",
		"registry update k --value 1 --if {":                    "--if is not JSON",
		"registry update k --value [":                           "--value is not JSON",
		"registry renew l --ttl -1s":                            "ttl -1s is not between",
		"registry nope":                                         `unknown command "nope"`,
		"registry register k -o csv":                            "no rows to write as csv",
		"forget":                                                "forget: MEMBER is missing",
		"keys nope":                                             `unknown command "nope"`,
		"keys use":                                              "use: ID is missing",
		"keys add":                                              "add: FILE is missing",
		"keys add MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=": "a key must not be an argument",
		"keygen a b":                                            "keygen: one argument too many",
	} {
		r := command(strings.Fields(args)...)
		assert.Equal(t, exitUsage, r.code, args)
		assert.Contains(t, r.err, want, args)
		assert.NotContains(t, r.err, "MDEyMzQ1", "an error has a key in it")
	}
}

func TestLookupAndList(t *testing.T) {
	m, _ := three(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "registry-list-"+format, m.do("registry", "list", "-o", format))
	}
	r := m.do("registry", "lookup", "leader", "-o", "json")
	var doc struct{ Entries []registrationJSON }
	require.NoError(t, json.Unmarshal([]byte(r.out), &doc))
	require.Len(t, doc.Entries, 1)
	assert.Equal(t, `{"zone":"a"}`, string(doc.Entries[0].Value))
	assert.Equal(t, ownerJSON{Kind: "member", Member: "m1"}, doc.Entries[0].Owner)
	r = m.do("registry", "lookup", "nobody")
	assert.Equal(t, result{exitFailed, "", "debughost: look up nobody: nobody has registered it\nhint: `debughost registry list` tells what there is\n"}, r)
	assert.Contains(t, m.do("registry", "list", "x").err, "nothing is registered there")
	assert.Equal(t, "{\"entries\":[]}\n", m.do("registry", "list", "x", "-o", "json").out)
	assert.Equal(t, 2, strings.Count(m.do("registry", "list", "-o", "csv", "--limit", "1", "--origin", "m1", "--after", "deploy").out, "\n"))
}

func TestRegistryWrites(t *testing.T) {
	m, c := three(t)
	assert.Equal(t, result{exitDone, "unregistered leader (1)\n", ""}, m.do("registry", "unregister", "leader"))
	assert.Contains(t, m.do("registry", "unregister", "leader", "--member", "m1", "-o", "json").out, `"removed": 1`)
	assert.Equal(t, exitFailed, m.do("registry", "unregister", "leader", "--member", "m2").code)

	r := m.do("registry", "update", "leader", "--value", "2", "--if", `{"zone": "a"}`)
	assert.Equal(t, result{exitDone, "updated leader for member m1, at m1\n", ""}, r)
	r = m.do("registry", "update", "leader", "--value", "2", "--if", "")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, `update leader: its value is {"zone":"a"} by now`)

	assert.Equal(t, result{exitDone, "renewed l-1 (2)\n", ""}, m.do("registry", "renew", "l-1", "--ttl", "1m"))
	assert.Contains(t, m.do("registry", "renew", "l-1", "-o", "json").out, `"entries": 2`)
	c.acted = errors.New("no")
	assert.Equal(t, "debughost: renew l-1: no\n", m.do("registry", "renew", "l-1").err)
}

// Watching goes on until the user stops it, which is no failure.
func TestRegistryWatch(t *testing.T) {
	m, c := three(t)
	old := c.entries[0]
	c.changes = []control.Change{
		{Type: control.Put, Entry: c.entries[1]}, {Type: control.SnapshotEnd}, {Type: control.Put, Entry: c.entries[0], Old: &old},
		{Type: control.Delete, Entry: c.entries[2]}, {Type: control.Reset},
	}
	for format, lines := range map[string]int{"table": 4, "json": 5, "csv": 6} {
		ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
		out := &screens{stop: stop}
		out.enough = func(s *screens) bool { return strings.Count(s.String(), "\n") == lines-1 }
		a := newApp(strings.NewReader(""), out, os.Stderr)
		code := a.run(ctx, []string{"--addr", m.addr, "registry", "watch", "-o", format})
		stop()
		assert.Equal(t, exitDone, code)
		golden(t, "registry-watch-"+format, result{code, out.String(), ""})
	}
	assert.Contains(t, m.do("registry", "watch", "--timeout", "1ms").err, "no answer in time")
}

func TestKeygen(t *testing.T) {
	r := command("keygen")
	assert.Equal(t, exitDone, r.code)
	assert.True(t, control.LooksLikeKey(r.out), r.out)
	assert.NotEqual(t, r.out, command("keygen").out)
	var doc map[string]string
	require.NoError(t, json.Unmarshal([]byte(command("keygen", "-o", "json").out), &doc))
	assert.True(t, control.LooksLikeKey(doc["key"]))
	assert.Len(t, doc["key_id"], 8)

	path := filepath.Join(t.TempDir(), "cluster.key")
	r = command("keygen", path, "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(r.out), &doc))
	assert.Equal(t, path, doc["file"])
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotContains(t, r.out, strings.TrimSpace(string(before)))
	r = command("keygen", path)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "exists already")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	assert.Contains(t, command("keygen", filepath.Join(t.TempDir(), "new")).out, "wrote cluster key ")
}

func TestKeys(t *testing.T) {
	m, c := three(t)
	for _, format := range []string{"table", "json", "csv"} {
		golden(t, "keys-list-"+format, m.do("keys", "list", "-o", format))
	}
	path := filepath.Join(t.TempDir(), "new.key")
	require.Equal(t, exitDone, command("keygen", path).code)
	r := m.do("keys", "add", path)
	assert.Equal(t, exitPartial, r.code, "db3 is dead")
	assert.Equal(t, "added key 1a2b3c4d: m1\n", r.out)
	assert.Contains(t, r.err, "debughost: member db3 could not be reached: it is dead since 2026-01-31 11:58:30Z\nhint: ")
	c.members = c.members[:2]
	assert.Equal(t, result{exitDone, "added key 1a2b3c4d: m1\n", ""}, m.do("keys", "add", path))
	text, _ := os.ReadFile(path)
	assert.Contains(t, string(text), c.added)
	r = commandWith(func(a *app) { a.in = strings.NewReader(string(text)) }, "--addr", m.addr, "keys", "add", "-", "-o", "json")
	assert.Equal(t, exitDone, r.code, r.err)
	assert.Contains(t, r.out, `"key_id": "1a2b3c4d"`)
	assert.NotContains(t, r.out, c.added)
	assert.Equal(t, "using key 9f8e7d6c: m1\n", m.do("keys", "use", "9f8e7d6c").out)
	assert.Equal(t, "removed key 9f8e7d6c: m1\n", m.do("keys", "remove", "9f8e7d6c").out)

	c.acted = &cluster.KeyFileError{Path: "/k", Cause: errors.New("read-only")}
	for _, args := range []string{"keys use 9f8e7d6c", "keys use 9f8e7d6c -o json"} {
		r = m.do(strings.Fields(args)...)
		assert.Equal(t, exitPartial, r.code)
		assert.Contains(t, r.out+r.err, "member m1: ")
		assert.Contains(t, r.out+r.err, "read-only")
	}
	r = m.do("keys", "add", filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "no such file")
	require.NoError(t, os.WriteFile(path, []byte("# nothing\n"), 0o600))
	assert.Contains(t, m.do("keys", "add", path).err, "there are 0 keys in")
}

// Events of the cluster read as sentences.
func TestClusterEvents(t *testing.T) {
	m, _ := three(t)
	m.bus.Publish(events.Event{Type: events.MemberDead, Reason: "the members agree that it does not answer", Fields: map[string]string{"member": "db3"}})
	m.bus.Publish(events.Event{Type: events.NameConflict, Reason: "db2 registered it before", Fields: map[string]string{"key": "leader", "winner": "db2"}})
	m.bus.Merge(events.Event{Time: noon, Member: "db2", Type: events.TargetReleased, Node: "cart@db2", Reason: "m1 is on its machine"})
	m.bus.Publish(events.Event{Type: events.TargetMoved, Node: "shop@db1", Reason: "db3 is dead", Fields: map[string]string{"from": "db3", "to": "m1"}})
	m.bus.Publish(events.Event{Type: events.QuorumLost, Reason: "1 of 3 members are alive", Fields: map[string]string{"need": "2"}})
	golden(t, "events-cluster", m.do("events"))
}

func TestClusterCompletion(t *testing.T) {
	defer func(was time.Duration) { completionTime = was }(completionTime)
	completionTime = time.Minute
	m, _ := three(t)
	for args, want := range map[string]string{
		"forget ":                               "db2 db3 m1",
		"forget d":                              "db2 db3",
		"forget db3 ":                           "",
		"keys use ":                             "1a2b3c4d 9f8e7d6c",
		"registry lookup l":                     "leader",
		"registry unregister leader --member d": "db2 db3",
		"registry register k --consistency ":    "local quorum",
		"registry register k --node s":          "shop@db1",
		"registry ":                             "list lookup register renew unregister update watch",
		"keys ":                                 "add list remove use",
	} {
		got := completions(m, strings.Split(args, " ")...)
		slices.Sort(got)
		assert.Equal(t, want, strings.Join(got, " "), args)
	}
}
