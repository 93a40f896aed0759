package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
)

func register(t *testing.T, c *Client, req *controlpb.RegisterRequest) (*controlpb.RegistryEntry, error) {
	t.Helper()
	res, err := c.Registry.Register(testContext(t), req)
	return res.GetEntry(), err
}

func entryText(e *controlpb.RegistryEntry) string {
	o := e.GetOwner()
	return strings.TrimRight(fmt.Sprint(e.GetKey(), "=", string(e.GetValue()), " ", o.GetKind(), " ", o.GetNode(), o.GetPid(), o.GetMember(), o.GetLease(), " at ", e.GetOrigin()), " ")
}

// An entry belongs to the member that was asked, or to the one that is attached
// to the node of the process that owns it.
func TestRegister(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "shop@db1")
	client := c.members["a"].dial(t)
	e, err := register(t, client, &controlpb.RegisterRequest{Key: "leader", Value: []byte(`{"zone":"a"}`)})
	require.NoError(t, err)
	assert.Equal(t, `leader={"zone":"a"} member a at a`, entryText(e))
	assert.Equal(t, startOfTests, e.GetSince().AsTime())

	e, err = register(t, client, &controlpb.RegisterRequest{Key: "orders", Node: "shop", Pid: "0.12.0", Duplicate: true})
	require.NoError(t, err)
	assert.Equal(t, "orders= pid shop@db1<0.12.0> at b", entryText(e))
	assert.True(t, e.GetDuplicate())

	e, err = register(t, client, &controlpb.RegisterRequest{Key: "deploy", Ttl: durationpb.New(time.Minute)})
	require.NoError(t, err)
	assert.Len(t, e.GetOwner().GetLease(), 16)
	assert.Equal(t, time.Minute, e.GetTtl().AsDuration())

	// A lease that is known has its keys together.
	e, err = register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "deploy/2", Ttl: durationpb.New(time.Minute), Lease: e.GetOwner().GetLease()})
	require.NoError(t, err)
	assert.Equal(t, "a", e.GetOrigin())

	_, err = register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "leader"})
	e2 := requireCode(t, err, Taken)
	assert.Equal(t, "register leader: taken by member a of a", e2.Cause)
}

func TestRegisterRefuses(t *testing.T) {
	c := newTestCluster(t, "a")
	c.own("a", "shop@db1")
	client := c.members["a"].dial(t)
	for name, req := range map[string]*controlpb.RegisterRequest{
		"no key":         {},
		"long key":       {Key: strings.Repeat("k", MaxKey+1)},
		"odd key":        {Key: "a\x00b"},
		"reserved":       {Key: "target/x"},
		"reserved too":   {Key: "seen/x"},
		"long value":     {Key: "k", Value: make([]byte, MaxValue+1)},
		"ttl":            {Key: "k", Ttl: durationpb.New(-1)},
		"short ttl":      {Key: "k", Ttl: durationpb.New(1)},
		"long ttl":       {Key: "k", Ttl: durationpb.New(2 * MaxTTL)},
		"lease only":     {Key: "k", Lease: "l"},
		"long lease":     {Key: "k", Lease: strings.Repeat("l", MaxKey+1), Ttl: durationpb.New(time.Second)},
		"consistency":    {Key: "k", Consistency: "strong"},
		"pid only":       {Key: "k", Pid: "<0.1.0>"},
		"node only":      {Key: "k", Node: "shop@db1"},
		"long pid":       {Key: "k", Node: "shop@db1", Pid: strings.Repeat("p", 2000)},
		"pid and lease":  {Key: "k", Node: "shop@db1", Pid: "<0.1.0>", Ttl: durationpb.New(time.Second)},
		"another's node": {Key: "k", Node: "shop@db1", Pid: "<9.1.0>", Lease: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := register(t, client, req)
			e := requireCode(t, err, BadRequest)
			assert.True(t, strings.HasPrefix(e.Cause, "register"), e.Cause)
		})
	}
	assert.Empty(t, c.registry.entries)
}

// What needs a quorum is refused without one; forced, it is done, written down
// and told.
func TestRegisterWithoutQuorum(t *testing.T) {
	c := newTestCluster(t, "a")
	c.registry.noQuorum = true
	m := c.members["a"]
	client := m.dial(t)
	_, err := register(t, client, &controlpb.RegisterRequest{Key: "leader", Consistency: "quorum"})
	e := requireCode(t, err, NoQuorum)
	assert.Contains(t, e.Hint, "--force")
	_, err = register(t, client, &controlpb.RegisterRequest{Key: "local"})
	require.NoError(t, err)
	assert.Empty(t, m.audit.all())

	_, err = register(t, client, &controlpb.RegisterRequest{Key: "leader", Consistency: "quorum", Force: true})
	require.NoError(t, err)
	require.Len(t, m.audit.all(), 1)
	assert.Equal(t, "Register", m.audit.all()[0].Method)
	h := m.engine.Events().History(events.Filter{Types: []events.Type{events.QuorumForced}})
	require.Len(t, h, 1)
	assert.Equal(t, "leader", h[0].Fields["key"])
	assert.Contains(t, h[0].Fields["by"], "uid ")
}

// Writes go to the member that an entry belongs to.
func TestRegistryWritesAtOrigin(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	a, b := c.members["a"].dial(t), c.members["b"].dial(t)
	for _, m := range []*Client{a, b} {
		_, err := register(t, m, &controlpb.RegisterRequest{Key: "workers", Duplicate: true})
		require.NoError(t, err)
	}
	e, err := register(t, b, &controlpb.RegisterRequest{Key: "lease", Ttl: durationpb.New(time.Minute), Value: []byte("1")})
	require.NoError(t, err)
	ctx := testContext(t)

	res, err := a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "lease", Value: []byte("2"), Expected: []byte("1")})
	require.NoError(t, err)
	assert.Equal(t, "2", string(res.GetEntry().GetValue()))
	assert.Equal(t, "b", res.GetEntry().GetOrigin())
	_, err = a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "lease", Value: []byte("3"), Expected: []byte("1")})
	assert.Equal(t, "update lease: its value is 2 by now", requireCode(t, err, Conflict).Cause)
	_, err = a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "workers", Value: []byte("3")})
	assert.Equal(t, "update workers: 2 owners share the key", requireCode(t, err, Conflict).Cause)
	_, err = a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "workers", Value: []byte("3"), Owner: &controlpb.EntrySelector{Member: "b"}})
	require.NoError(t, err)
	_, err = a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "nobody"})
	requireCode(t, err, UnknownKey)
	_, err = a.Registry.Update(ctx, &controlpb.UpdateRequest{Key: "target/x"})
	requireCode(t, err, BadRequest)

	renewed, err := a.Registry.Renew(ctx, &controlpb.RenewRequest{Lease: e.GetOwner().GetLease(), Ttl: durationpb.New(time.Minute)})
	require.NoError(t, err)
	assert.Equal(t, uint32(1), renewed.GetEntries())
	for lease, code := range map[string]Code{"": BadRequest, "none": UnknownKey} {
		_, err = a.Registry.Renew(ctx, &controlpb.RenewRequest{Lease: lease})
		requireCode(t, err, code)
	}
	_, err = a.Registry.Renew(ctx, &controlpb.RenewRequest{Lease: "x", Ttl: durationpb.New(-1)})
	requireCode(t, err, BadRequest)

	removed, err := c.members["c"].dial(t).Registry.Unregister(ctx, &controlpb.UnregisterRequest{Key: "workers"})
	require.NoError(t, err)
	assert.Equal(t, uint32(2), removed.GetRemoved())
	_, err = a.Registry.Unregister(ctx, &controlpb.UnregisterRequest{Key: "workers"})
	requireCode(t, err, UnknownKey)
	_, err = a.Registry.Unregister(ctx, &controlpb.UnregisterRequest{Key: "lease", Owner: &controlpb.EntrySelector{Member: "b"}})
	requireCode(t, err, UnknownKey)
	_, err = a.Registry.Unregister(ctx, &controlpb.UnregisterRequest{Key: "seen/x"})
	requireCode(t, err, BadRequest)
	assert.Equal(t, "Unregister", c.members["b"].audit.all()[len(c.members["b"].audit.all())-1].Method)
}

// An entry whose member can't be reached stays as it is, and the error names it.
func TestRegistryOriginOutOfReach(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	_, err := register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "k"})
	require.NoError(t, err)
	c.members["b"].listen.cut()
	_, err = c.members["a"].dial(t).Registry.Unregister(testContext(t), &controlpb.UnregisterRequest{Key: "k"})
	assert.Contains(t, requireCode(t, err, Unreachable).Cause, "unregister k: member b could not be reached: ")
}

func TestRegistryOriginLost(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	_, err := register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "k", Ttl: durationpb.New(time.Minute), Lease: "l"})
	require.NoError(t, err)
	lost := &lostError{member: "b", sent: true, err: io.ErrUnexpectedEOF}
	assert.Equal(t, "renew l: member b was lost before it answered: it is unknown whether this was done", lost.unknown("renew l", "").Cause)
	s := &registryService{engine: memberRegistry{c.registry, "a"}, forward: newForwarder(nil, nil), self: func() string { return "a" }}
	_, err = s.Renew(context.Background(), &controlpb.RenewRequest{Lease: "l"}) // alone, with an entry of somebody
	requireCode(t, err, Unreachable)
	ctx := context.WithValue(context.Background(), callerKey{}, Caller{Member: "c", Forwarded: true})
	_, err = s.Renew(ctx, &controlpb.RenewRequest{Lease: "l"})
	requireCode(t, err, NotOwner)
	_, err = s.Update(ctx, &controlpb.UpdateRequest{Key: "k"})
	requireCode(t, err, NotOwner)
	_, err = s.Unregister(ctx, &controlpb.UnregisterRequest{Key: "k"})
	requireCode(t, err, UnknownKey)
}

// lateRegistry shows nothing of a key until its Watch does.
type lateRegistry struct {
	memberRegistry
	seen atomic.Bool
}

func (r *lateRegistry) All(key string) []registry.Entry {
	if !r.seen.Load() {
		return nil
	}
	return r.memberRegistry.All(key)
}

func (r *lateRegistry) Watch(context.Context, string) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		if yield(Change{Type: SnapshotEnd}) {
			r.seen.Store(true)
			yield(Change{Type: Put})
		}
	}
}

// What was written elsewhere is answered once it shows here.
func TestWritesAreSeenHere(t *testing.T) {
	r := &lateRegistry{memberRegistry: newFakeRegistry().asMember("a")}
	_, err := r.Register(context.Background(), registry.Claim{Key: "k"})
	require.NoError(t, err)
	s := &registryService{engine: r}
	s.settleEntry(context.Background(), &controlpb.RegistryEntry{Key: "k", Origin: "a", Since: timestamppb.New(startOfTests), Owner: &controlpb.RegistryOwner{}})
	assert.True(t, r.seen.Load())
	s.settle(context.Background(), "k", func([]registry.Entry) bool { return false }) // not for ever
}

func TestOwnerText(t *testing.T) {
	for want, o := range map[string]registry.Owner{
		"<0.1.0> on n@h": {Kind: registry.OwnerPid, Node: "n@h", Pid: "<0.1.0>"},
		"child c":        {Kind: registry.OwnerChild, Child: "c"},
		"lease l":        {Kind: registry.OwnerLease, Lease: "l"},
		"member m":       {Kind: registry.OwnerMember, Member: "m"},
	} {
		assert.Equal(t, want, ownerText(o))
	}
}

func TestRegistryReads(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n@h")
	a, b := c.members["a"].dial(t), c.members["b"].dial(t)
	for i := range 1203 {
		_, err := c.registry.asMember("b").Register(context.Background(), registry.Claim{Key: fmt.Sprintf("k/%04d", i), Owner: registry.Owner{Kind: registry.OwnerMember, Member: "b"}})
		require.NoError(t, err)
	}
	_, err := register(t, a, &controlpb.RegisterRequest{Key: "k/x"})
	require.NoError(t, err)
	_, err = register(t, b, &controlpb.RegisterRequest{Key: "k/y", Node: "n@h", Pid: "<0.1.0>"})
	require.NoError(t, err)
	all := func(req *controlpb.ListEntriesRequest) (keys []string, chunks int) {
		stream, err := a.Registry.List(testContext(t), req)
		require.NoError(t, err)
		for {
			res, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return keys, chunks
			}
			require.NoError(t, err)
			chunks++
			for _, e := range res.GetEntries() {
				keys = append(keys, e.GetKey())
			}
		}
	}
	keys, chunks := all(&controlpb.ListEntriesRequest{Prefix: "k/"})
	assert.Len(t, keys, 1205)
	assert.Equal(t, 3, chunks)
	keys, _ = all(&controlpb.ListEntriesRequest{Limit: 2, After: "k/0007"})
	assert.Equal(t, []string{"k/0008", "k/0009"}, keys)
	keys, _ = all(&controlpb.ListEntriesRequest{Origin: "a"})
	assert.Equal(t, []string{"k/x"}, keys)
	keys, _ = all(&controlpb.ListEntriesRequest{Node: "n@h"})
	assert.Equal(t, []string{"k/y"}, keys)
	keys, chunks = all(&controlpb.ListEntriesRequest{Prefix: "z"})
	assert.Zero(t, len(keys)+chunks)

	res, err := a.Registry.Lookup(testContext(t), &controlpb.LookupRequest{Key: "k/y"})
	require.NoError(t, err)
	assert.Equal(t, "k/y= pid n@h<0.1.0> at b", entryText(res.GetEntries()[0]))
	_, err = a.Registry.Lookup(testContext(t), &controlpb.LookupRequest{Key: "k"})
	assert.Equal(t, "look up k: nobody has registered it", requireCode(t, err, UnknownKey).Cause)
	_, err = a.Registry.Lookup(testContext(t), &controlpb.LookupRequest{})
	requireCode(t, err, BadRequest)
	stream, err := a.Registry.List(testContext(t), &controlpb.ListEntriesRequest{Prefix: strings.Repeat("p", MaxKey+1)})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireCode(t, err, BadRequest)
}

func TestRegistryWatch(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	a := c.members["a"].dial(t)
	_, err := register(t, a, &controlpb.RegisterRequest{Key: "k/1"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	stream, err := a.Registry.Watch(ctx, &controlpb.WatchEntriesRequest{Prefix: "k/"})
	require.NoError(t, err)
	next := func() string {
		t.Helper()
		ch, err := stream.Recv()
		require.NoError(t, err)
		return fmt.Sprint(ch.GetType(), " ", ch.GetEntry().GetKey(), " ", string(ch.GetEntry().GetValue()), " ", string(ch.GetOld().GetValue()))
	}
	assert.Equal(t, "put k/1  ", next())
	assert.Equal(t, "snapshot_end   ", next())
	_, err = register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "k/2", Value: []byte("1")})
	require.NoError(t, err)
	_, err = register(t, c.members["b"].dial(t), &controlpb.RegisterRequest{Key: "k/2", Value: []byte("2")})
	require.NoError(t, err)
	_, err = a.Registry.Unregister(ctx, &controlpb.UnregisterRequest{Key: "k/2"})
	require.NoError(t, err)
	assert.Equal(t, []string{"put k/2 1 ", "put k/2 2 1", "delete k/2 2 "}, []string{next(), next(), next()})
	c.members["a"].server.opts.Drain = time.Minute
	require.NoError(t, c.members["a"].stop())
	_, err = stream.Recv()
	requireCode(t, err, Stopping)

	stream, err = c.members["b"].dial(t).Registry.Watch(ctx, &controlpb.WatchEntriesRequest{Prefix: strings.Repeat("p", MaxKey+1)})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireCode(t, err, BadRequest)
	stream, err = c.members["b"].dial(t).Registry.Watch(ctx, &controlpb.WatchEntriesRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	requireCode(t, err, Canceled)
}

// A debughost without a part says so.
func TestWithoutACluster(t *testing.T) {
	c := serve(t, &fakeEngine{}, Options{}).dial(t)
	ctx := testContext(t)
	for name, call := range map[string]func() error{
		"members":    func() error { _, err := c.Cluster.ListMembers(ctx, &controlpb.ListMembersRequest{}); return err },
		"leave":      func() error { _, err := c.Cluster.Leave(ctx, &controlpb.LeaveRequest{}); return err },
		"forget":     func() error { _, err := c.Cluster.ForgetMember(ctx, &controlpb.ForgetMemberRequest{}); return err },
		"keys":       func() error { _, err := c.Cluster.ListKeys(ctx, &controlpb.ListKeysRequest{}); return err },
		"add key":    func() error { _, err := c.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{}); return err },
		"use key":    func() error { _, err := c.Cluster.UseKey(ctx, &controlpb.UseKeyRequest{}); return err },
		"remove key": func() error { _, err := c.Cluster.RemoveKey(ctx, &controlpb.RemoveKeyRequest{}); return err },
		"register":   func() error { _, err := register(t, c, &controlpb.RegisterRequest{Key: "k"}); return err },
		"unregister": func() error { _, err := c.Registry.Unregister(ctx, &controlpb.UnregisterRequest{}); return err },
		"update":     func() error { _, err := c.Registry.Update(ctx, &controlpb.UpdateRequest{}); return err },
		"renew":      func() error { _, err := c.Registry.Renew(ctx, &controlpb.RenewRequest{}); return err },
		"lookup":     func() error { _, err := c.Registry.Lookup(ctx, &controlpb.LookupRequest{}); return err },
		"list": func() error {
			s, err := c.Registry.List(ctx, &controlpb.ListEntriesRequest{})
			require.NoError(t, err)
			_, err = s.Recv()
			return err
		},
		"watch": func() error {
			s, err := c.Registry.Watch(ctx, &controlpb.WatchEntriesRequest{})
			require.NoError(t, err)
			_, err = s.Recv()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { requireCode(t, call(), Failed) })
	}
}
