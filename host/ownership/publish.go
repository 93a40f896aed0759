package ownership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// publishSeen says in the registry that discovery tells this member of the node.
func (d *decider) publishSeen(n *node, s target.Sighting, seen bool, now time.Time) time.Time {
	key := seenPrefix + n.name
	if !seen {
		if n.said != nil {
			d.unregister(key)
			n.said = nil
		}
		return time.Time{}
	}
	switch {
	case !n.trial.failed:
		n.failure = ""
	case n.failure == "":
		n.failure = s.Info.Reason
	}
	value := encodeSeen(seenValue{Local: s.Local, Box: s.Box, Failed: n.trial.failed, Failures: n.trial.failures, Reason: n.failure, Since: n.since.UnixMilli()})
	if slices.Equal(value, n.said) {
		return time.Time{}
	}
	if err := d.register(registry.Claim{Key: key, Value: value, Owner: d.self, Duplicate: true}); err != nil {
		return now.Add(tryLater)
	}
	n.said = value
	return time.Time{}
}

// claimNode makes the node ours.
func (d *decider) claimNode(n *node, s target.Sighting, now time.Time) error {
	value := encodeInfo(s.Info)
	if err := d.register(registry.Claim{Key: targetPrefix + n.name, Value: value, Owner: d.self}); err != nil {
		return err
	}
	n.mine, n.told, n.toldAt, n.toldState = true, value, now, s.Info.State
	d.say(n.name, true, "")
	return nil
}

// publishTarget brings the value of our target key up to date: at once when the
// state is another one, else not more often than each refresh.
func (d *decider) publishTarget(n *node, s target.Sighting, now time.Time) time.Time {
	value := encodeInfo(s.Info)
	if s.Info.Node == "" || slices.Equal(value, n.told) {
		return time.Time{}
	}
	if due := n.toldAt.Add(refresh); s.Info.State == n.toldState && now.Before(due) {
		return due
	}
	up := s.Info.State == target.Attached && n.toldState != target.Attached
	if err := d.register(registry.Claim{Key: targetPrefix + n.name, Value: value, Owner: d.self}); err != nil {
		return now.Add(tryLater)
	}
	n.told, n.toldAt, n.toldState = value, now, s.Info.State
	if up {
		d.pids.attached(n.name)
		d.moved(n, s)
	}
	return time.Time{}
}

// moved publishes that a target has another owner than before.
func (d *decider) moved(n *node, s target.Sighting) {
	from := n.last
	n.last = holder{}
	if from.member == "" {
		return
	}
	d.cfg.Publish(events.Event{
		Type: events.TargetMoved, Node: n.name, Member: d.cfg.Member, Reason: d.moveCause(from, s),
		Fields: map[string]string{"from": from.member, "to": d.cfg.Member},
	})
	d.cfg.Log.WithField("node", n.name).WithField("from", from.member).Info("target moved here")
}

func (d *decider) moveCause(from holder, s target.Sighting) string {
	for _, m := range d.cfg.Members() {
		if m.Name == from.member && !m.State.Usable() {
			return fmt.Sprintf("member %s is %s", m.Name, m.State)
		}
	}
	if s.Local && !from.local {
		return "this member is on its machine"
	}
	return fmt.Sprintf("member %s let go of it", from.member)
}

// register is local and does not wait for anybody.
func (d *decider) register(c registry.Claim) error {
	_, err := d.cfg.Registry.Register(context.Background(), c)
	var taken *registry.TakenError
	if err != nil && !errors.As(err, &taken) {
		d.cfg.Log.WithField("key", c.Key).WithField("err", err).Warn("target's owner not registered")
	}
	return err
}

// unregister takes back what may be gone already, by a conflict.
func (d *decider) unregister(key string) { _, _ = d.cfg.Registry.Unregister(key, &d.self) }
