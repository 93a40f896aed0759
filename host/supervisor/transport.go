package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/host/registry"
)

// The keys in the registry, each a duplicate one that belongs to the member that
// says it.
const (
	recordPrefix = "child/"      // child/<id>: envelope
	factPrefix   = "childstate/" // childstate/<id>: fact
	memberPrefix = "member/"     // member/<name>/acks, member/<name>/info
	drainPrefix  = "drain/"      // metadata: drain/<member>
)

// envelope is a record on its way, numbered by the life of the member that
// publishes it, so that others can confirm it.
type envelope struct {
	Life   int64           `json:"l"`
	N      uint64          `json:"n"`
	Record json.RawMessage `json:"r"`
}

// acks says up to which number a member has what others publish on disk.
type acks map[string]ack

type ack struct {
	Life int64  `json:"l"`
	N    uint64 `json:"n"`
}

// hearing is what this member has to confirm to another one. What it confirms
// next stays the same until it is on disk, however much comes meanwhile.
type hearing struct {
	done, next, last ack
	nextPut, lastPut uint64 // in the book
}

func (s *Supervisor) publishRecord(r *record) {
	s.mu.Lock()
	s.pubs++
	n := s.pubs
	s.mu.Unlock()
	b, err := marshal(envelope{s.life, n, r.encode()})
	if err == nil {
		s.register(recordPrefix+r.ID, b)
	}
}

func (s *Supervisor) publishFact(id string, f *fact) {
	if f == nil {
		s.withdraw(factPrefix + id)
		return
	}
	if b, err := json.Marshal(f); err == nil {
		s.register(factPrefix+id, b)
	}
}

func (s *Supervisor) owner() registry.Owner { return registry.ByMember(s.cfg.Member) }

// register does not wait for anybody.
func (s *Supervisor) register(key string, value []byte) {
	_, err := s.cfg.Registry.Register(context.Background(), registry.Claim{Key: key, Value: value, Owner: s.owner(), Duplicate: true})
	if err != nil {
		s.cfg.Log.WithField("key", key).WithField("err", err).Error("the other members cannot be told of a child")
	}
}

func (s *Supervisor) withdraw(key string) {
	owner := s.owner()
	_, _ = s.cfg.Registry.Unregister(key, &owner) // it may be gone
}

// theirs yields the changes of other members' entries. An entry that goes because
// its member is out of sight is none: that member may do as it said.
func (s *Supervisor) theirs(ctx context.Context, prefix string) iter.Seq[registry.Change] {
	return func(yield func(registry.Change) bool) {
		for c := range s.cfg.Registry.Watch(ctx, prefix) {
			switch {
			case c.Type == registry.Reset:
				s.resync()
			case c.Type == registry.SnapshotEnd || c.Entry.Origin == s.cfg.Member:
			case c.Type == registry.Delete && !s.sees(c.Entry.Origin):
			case !yield(c):
				return
			}
		}
	}
}

func (s *Supervisor) sees(member string) bool {
	for _, m := range s.cfg.Members() {
		if m.Name == member {
			return m.State.Usable()
		}
	}
	return false
}

func (s *Supervisor) watchRecords(ctx context.Context) {
	for c := range s.theirs(ctx, recordPrefix) {
		if c.Type == registry.Delete {
			s.do(func(core *core, now instant) {
				core.unheard(now, c.Entry.Origin, strings.TrimPrefix(c.Entry.Key, recordPrefix))
			})
			continue
		}
		s.hear(c.Entry)
	}
}

// hear takes a record that another member publishes.
func (s *Supervisor) hear(e registry.Entry) {
	var v envelope
	err := json.Unmarshal(e.Value, &v)
	var r record
	if err == nil {
		r, err = parseRecord(v.Record)
	}
	if err == nil && recordPrefix+r.ID != e.Key {
		err = errors.New("it is that of another child")
	}
	if err != nil {
		s.cfg.Log.WithField("member", e.Origin).WithField("key", e.Key).WithField("err", err).Error("a child's record from another member is no record")
		return
	}
	s.do(func(c *core, now instant) {
		c.heard(now, e.Origin, r)
		h := s.hearing[e.Origin]
		if h == nil || h.last.Life != v.Life {
			h = &hearing{}
			s.hearing[e.Origin] = h
		}
		if v.N > h.last.N {
			h.last = ack{v.Life, v.N}
		}
	})
	s.mu.Lock()
	if h := s.hearing[e.Origin]; h != nil {
		h.lastPut = s.lastPut
	}
	s.mu.Unlock()
	wake(s.confirm)
}

func (s *Supervisor) watchFacts(ctx context.Context) {
	for c := range s.theirs(ctx, factPrefix) {
		id := strings.TrimPrefix(c.Entry.Key, factPrefix)
		var f *fact
		if c.Type == registry.Put {
			var err error
			if f, err = parseFact(c.Entry.Value); err != nil || !validID(id) {
				s.cfg.Log.WithField("member", c.Entry.Origin).WithField("key", c.Entry.Key).WithField("err", err).Error("a child's state from another member is none")
				continue
			}
		}
		s.do(func(core *core, now instant) { core.toldOf(now, c.Entry.Origin, id, f) })
		s.news.Tell() // what List tells is another, also where there is nothing to do
	}
}

// hearAll takes all records that other members publish now. The watch brings them too,
// when it gets to run; a record that is heard twice changes nothing.
func (s *Supervisor) hearAll() {
	for e := range s.cfg.Registry.Select(recordPrefix, nil) {
		if e.Origin != s.cfg.Member {
			s.hear(e)
		}
	}
}

// watchMembers hears what members confirm, and what they have.
func (s *Supervisor) watchMembers(ctx context.Context) {
	for c := range s.theirs(ctx, memberPrefix) {
		name, what, _ := strings.Cut(strings.TrimPrefix(c.Entry.Key, memberPrefix), "/")
		if name != c.Entry.Origin || c.Type != registry.Put {
			continue
		}
		s.mu.Lock()
		switch what {
		case "acks":
			var a acks
			if json.Unmarshal(c.Entry.Value, &a) == nil {
				s.acks[name] = a
			}
		case "info":
			var i info
			if json.Unmarshal(c.Entry.Value, &i) == nil {
				s.infos[name] = i
			}
		}
		s.mu.Unlock()
		s.acked.Tell()
	}
}

// confirmer tells others what of theirs is on this member's disk, and how this
// member does.
func (s *Supervisor) confirmer(ctx context.Context) {
	const infoEvery = 5 * time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var durable uint64
		var written <-chan struct{}
		if s.book != nil {
			durable, written = s.book.Durable()
		}
		if say, changed := s.confirmed(durable); changed && s.cfg.Clustered {
			if b, err := json.Marshal(say); err == nil {
				s.register(memberPrefix+s.cfg.Member+"/acks", b)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-written:
		case <-s.confirm:
		case <-timer.C:
			s.publishInfo()
			timer.Reset(infoEvery)
		}
	}
}

// confirmed brings what is confirmed up to date.
func (s *Supervisor) confirmed(durable uint64) (say acks, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.book == nil {
		return nil, false
	}
	say = acks{}
	for name, h := range s.hearing {
		for range 2 { // the next, and what came after it
			if h.next != h.done && durable >= h.nextPut {
				h.done, changed = h.next, true
			}
			if h.next == h.done {
				h.next, h.nextPut = h.last, h.lastPut
			}
		}
		if h.done.N > 0 {
			say[name] = h.done
		}
	}
	return say, changed
}

// resync compares all that others publish with what the core knows: an entry
// that went while its member was out of sight is not told by a watch.
func (s *Supervisor) resync() {
	type key struct{ member, id string }
	facts, recs := map[key]bool{}, map[key]bool{}
	for e := range s.cfg.Registry.Select(factPrefix, nil) {
		facts[key{e.Origin, strings.TrimPrefix(e.Key, factPrefix)}] = true
	}
	for e := range s.cfg.Registry.Select(recordPrefix, nil) {
		recs[key{e.Origin, strings.TrimPrefix(e.Key, recordPrefix)}] = true
	}
	usable := map[string]bool{}
	for _, m := range s.cfg.Members() {
		usable[m.Name] = m.State.Usable()
	}
	s.do(func(c *core, now instant) {
		for id, ch := range c.children {
			for _, o := range slices.Clone(ch.others) {
				m := o.member.String()
				if o.fact != nil && usable[m] && !facts[key{m, id}] {
					c.toldOf(now, m, id, nil)
				}
				if o.publishes && !recs[key{m, id}] {
					c.unheard(now, m, id)
				}
			}
		}
	})
}
