package cluster

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It may hold its lock meanwhile, so nothing
// here blocks or calls memberlist back.
type delegate struct{ c *Cluster }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
	_ memberlist.MergeDelegate    = (*delegate)(nil)
)

// NodeMeta is what this member tells about itself.
func (d *delegate) NodeMeta(int) []byte { return d.c.cfg.meta().append(nil) }

// NotifyJoin, NotifyLeave and NotifyUpdate have the inspector look.
func (d *delegate) NotifyJoin(*memberlist.Node) { poke(d.c.lookNow) }

// NotifyLeave is called for deaths, too.
func (d *delegate) NotifyLeave(*memberlist.Node) { poke(d.c.lookNow) }

// NotifyUpdate is called for a new life of a member that was not dead.
func (d *delegate) NotifyUpdate(*memberlist.Node) { poke(d.c.lookNow) }

// NotifyAlive keeps out what is no member.
func (d *delegate) NotifyAlive(peer *memberlist.Node) error {
	if err := checkName("member name", peer.Name, maxName); err != nil {
		return err
	}
	_, err := parseMeta(peer.Meta)
	return err
}

// NotifyConflict is called for two addresses of one name.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	m, err := parseMeta(other.Meta)
	if err != nil {
		return
	}
	select {
	case d.c.conflicts <- conflict{name: existing.Name, had: existing.Address(), got: other.Address(), epoch: m.epoch}:
	default: // it comes again
	}
}

// NotifyMerge refuses the inspector.
func (d *delegate) NotifyMerge(peers []*memberlist.Node) error {
	if isInspection(peers) {
		return errInspection
	}
	return nil
}

// AckPayload tells this member's view to whoever probes it.
func (d *delegate) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(nil, d.c.view.Load())
}

// NotifyPingComplete notes when a member answered, and whether it has another
// view: then something is to be repaired.
func (d *delegate) NotifyPingComplete(peer *memberlist.Node, _ time.Duration, payload []byte) {
	d.c.mu.Lock()
	d.c.table.answered(time.Now(), peer.Name)
	d.c.mu.Unlock()
	if len(payload) == 8 && binary.BigEndian.Uint64(payload) != d.c.view.Load() {
		d.c.agreement.differ(time.Now(), peer.Address())
		d.c.joiner.wake()
	}
}

// NotifyMsg takes a burial.
func (d *delegate) NotifyMsg(b []byte) {
	x, err := parseMessage(b)
	if err != nil {
		d.c.log.WithError(err).Debug("bad gossip")
		return
	}
	d.c.bury(x)
}

// GetBroadcasts returns burials to be gossiped.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.burials.GetBroadcasts(overhead, limit)
}

// LocalState is what this member tells when it compares states.
func (d *delegate) LocalState(bool) []byte {
	now := time.Now()
	d.c.mu.Lock()
	s := share{view: d.c.view.Load(), gone: d.c.table.claims(now)}
	for name, stone := range d.c.table.forgotten {
		s.buried = append(s.buried, burial{name, stone.epoch, now.Sub(stone.since)})
	}
	d.c.mu.Unlock()
	return s.append(nil)
}

// MergeRemoteState is what the other one told.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	s, err := parseShare(b)
	if err != nil {
		d.c.log.WithError(err).Debug("bad gossip")
		return
	}
	for _, x := range s.buried {
		d.c.bury(x)
	}
	d.c.update(func(t *table, now time.Time) { t.learn(now, s.gone) })
	d.c.agreement.compare(d.c.view.Load() == s.view)
}

// burialBroadcast is a burial on its way.
type burialBroadcast struct {
	name    string
	message []byte
}

var _ memberlist.NamedBroadcast = (*burialBroadcast)(nil)

func (b *burialBroadcast) Name() string                                { return b.name }
func (b *burialBroadcast) Invalidates(other memberlist.Broadcast) bool { return false }
func (b *burialBroadcast) Message() []byte                             { return b.message }
func (b *burialBroadcast) Finished()                                   {}

// bury forgets a member's life and passes that on, where it was news.
func (c *Cluster) bury(x burial) bool {
	var news bool
	c.update(func(t *table, now time.Time) { news = t.bury(now, x.name, x.epoch, now.Add(-x.age)) })
	if news {
		c.burials.QueueBroadcast(&burialBroadcast{x.name, x.message()})
	}
	return news
}
