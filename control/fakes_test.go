package control

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/host/registry"
)

// coded is an error of the engine with a code.
type coded struct {
	error
	code Code
}

func (c coded) Facts() (code, node, hint string) { return string(c.code), "", "" }

func fail(code Code, format string, args ...any) error {
	return coded{fmt.Errorf(format, args...), code}
}

// fakeRegistry is what all members of a test share; every replica shows every
// change at once, unless a test holds them back.
type fakeRegistry struct {
	mu       sync.Mutex
	entries  []registry.Entry // by key, then by age
	log      []Change
	changed  chan struct{}
	noQuorum bool
	stats    RegistryStats
}

func newFakeRegistry() *fakeRegistry { return &fakeRegistry{changed: make(chan struct{})} }

// memberRegistry is the shared one as a member uses it.
type memberRegistry struct {
	*fakeRegistry
	self string
}

var _ RegistryEngine = memberRegistry{}

// tell notes a change. mu is held.
func (r *fakeRegistry) tell(c Change) {
	r.log = append(r.log, c)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r memberRegistry) Register(_ context.Context, c registry.Claim) (registry.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Consistency == registry.Quorum && r.noQuorum && !c.Force {
		return registry.Entry{}, fail(NoQuorum, "register %s: 1 of 3 members answer", c.Key)
	}
	e := registry.Entry{
		Key: c.Key, Value: c.Value, Owner: c.Owner, Origin: r.self, Duplicate: c.Duplicate, TTL: c.TTL,
		Since: startOfTests.Add(time.Duration(len(r.log)) * time.Second),
	}
	i := slices.IndexFunc(r.entries, func(o registry.Entry) bool {
		return o.Key == e.Key && (!o.Duplicate || !e.Duplicate || o.Owner == e.Owner)
	})
	if i >= 0 {
		old := r.entries[i]
		if old.Owner != e.Owner {
			return registry.Entry{}, fail(Taken, "register %s: taken by %s of %s", e.Key, ownerText(old.Owner), old.Origin)
		}
		r.entries[i] = e
		r.tell(Change{Put, e, &old})
		return e, nil
	}
	r.entries = append(r.entries, e)
	slices.SortStableFunc(r.entries, func(a, b registry.Entry) int { return strings.Compare(a.Key, b.Key) })
	r.tell(Change{Put, e, nil})
	return e, nil
}

func (r memberRegistry) Unregister(key string, owner *registry.Owner) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	r.entries = slices.DeleteFunc(r.entries, func(e registry.Entry) bool {
		gone := e.Key == key && e.Origin == r.self && (owner == nil || e.Owner == *owner)
		if gone {
			n++
			r.tell(Change{Type: Delete, Entry: e})
		}
		return gone
	})
	if n == 0 {
		return 0, fail(UnknownKey, "unregister %s: no such entry", key)
	}
	return n, nil
}

func (r memberRegistry) Update(key string, owner *registry.Owner, f func([]byte) ([]byte, error)) (registry.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.entries {
		if e.Key == key && e.Origin == r.self && e.Owner == *owner {
			v, err := f(e.Value)
			if err != nil {
				return e, err
			}
			old := e
			e.Value = bytes.Clone(v)
			r.entries[i] = e
			r.tell(Change{Put, e, &old})
			return e, nil
		}
	}
	return registry.Entry{}, fail(UnknownKey, "update %s: no such entry", key)
}

func (r memberRegistry) Renew(lease string, _ time.Duration) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.entries {
		if e.Owner.Lease == lease && e.Origin == r.self {
			n++
		}
	}
	if n == 0 {
		return 0, fail(UnknownKey, "renew %s: no such lease", lease)
	}
	return n, nil
}

func (r *fakeRegistry) All(key string) []registry.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []registry.Entry
	for _, e := range r.entries {
		if e.Key == key {
			out = append(out, e)
		}
	}
	return out
}

func (r *fakeRegistry) Keys(o registry.Owner) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := map[string]bool{}
	for _, e := range r.entries {
		if e.Owner == o {
			keys[e.Key] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

func (r *fakeRegistry) Select(prefix string) iter.Seq[registry.Entry] {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries := slices.Clone(r.entries)
	return func(yield func(registry.Entry) bool) {
		for _, e := range entries {
			if strings.HasPrefix(e.Key, prefix) && !yield(e) {
				return
			}
		}
	}
}

func (r *fakeRegistry) Watch(ctx context.Context, prefix string) iter.Seq[Change] {
	r.mu.Lock()
	entries, next := slices.Clone(r.entries), len(r.log)
	r.mu.Unlock()
	return func(yield func(Change) bool) {
		for _, e := range entries {
			if strings.HasPrefix(e.Key, prefix) && !yield(Change{Put, e, nil}) {
				return
			}
		}
		if !yield(Change{Type: SnapshotEnd}) {
			return
		}
		for ctx.Err() == nil {
			r.mu.Lock()
			fresh, changed := slices.Clone(r.log[next:]), r.changed
			r.mu.Unlock()
			for _, c := range fresh {
				next++
				if strings.HasPrefix(c.Entry.Key, prefix) && !yield(c) {
					return
				}
			}
			if len(fresh) == 0 {
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		}
	}
}

func (r *fakeRegistry) Stats() RegistryStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Entries = len(r.entries)
	return s
}

// fakeKeys is a ring whose keys are called by their last eight letters; the first
// one comes before all others in their order.
type fakeKeys struct {
	mu   sync.Mutex
	ids  []string // the primary first
	fail error
}

func newFakeKeys() *fakeKeys { return &fakeKeys{ids: []string{"!0000001"}} }

func (k *fakeKeys) Keys() []KeyInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []KeyInfo
	for i, id := range k.ids {
		out = append(out, KeyInfo{id, i == 0})
	}
	return out
}

func (k *fakeKeys) AddKey(text string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return "", k.fail
	}
	if len(text) < 8 {
		return "", fail(BadRequest, "this is no key")
	}
	id := text[len(text)-8:]
	if !slices.Contains(k.ids, id) {
		k.ids = append(k.ids, id)
	}
	return id, nil
}

func (k *fakeKeys) UseKey(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(k.ids, id)
	if i < 0 {
		return fail(UnknownKey, "there is no key %s", id)
	}
	k.ids = slices.Insert(slices.Delete(k.ids, i, i+1), 0, id)
	return k.fail
}

func (k *fakeKeys) RemoveKey(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch i := slices.Index(k.ids, id); {
	case i < 0:
		return fail(UnknownKey, "there is no key %s", id)
	case i == 0:
		return fail(Conflict, "key %s is the one in use", id)
	default:
		k.ids = slices.Delete(k.ids, i, i+1)
	}
	return k.fail
}

func (r *fakeRegistry) asMember(name string) memberRegistry { return memberRegistry{r, name} }
