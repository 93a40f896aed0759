package registry

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// meta is the registry's metadata: few small values that belong to nobody, of
// which the last write counts. All members have all of it. A deletion is a value
// too, for a day; a member that was out of sight for longer brings back what
// was deleted meanwhile.
type meta struct {
	values map[string]metaValue
	size   int
	sum    uint64 // of the hashes of all values
}

type metaValue struct {
	value   []byte
	stamp   uint64 // hybrid logical clock
	writer  string
	deleted bool
	hash    uint64
}

// Bounds of metadata. What others have written is accepted up to more than a
// member may have, as several may have written at once.
const (
	maxMeta         = 256 << 10 // bytes of keys and values that a member may write
	maxMetaReceived = 16 * maxMeta
	metaOverhead    = 64 // bytes that each value counts beside its own
	keepDeleted     = 24 * time.Hour
)

func newMeta() meta { return meta{values: make(map[string]metaValue)} }

// digest is a hash of all metadata.
func (m *meta) digest() uint64 { return m.sum }

func metaSize(key string, v metaValue) int { return len(key) + len(v.value) + metaOverhead }

func (v metaValue) newer(w metaValue) bool {
	if v.stamp != w.stamp {
		return v.stamp > w.stamp
	}
	return v.writer > w.writer
}

func (m *meta) set(key string, v metaValue) {
	v.hash = hash(appendMeta(nil, key, v))
	m.remove(key)
	m.values[key] = v
	m.size += metaSize(key, v)
	m.sum += v.hash
}

func (m *meta) remove(key string) {
	if v, ok := m.values[key]; ok {
		m.size -= metaSize(key, v)
		m.sum -= v.hash
		delete(m.values, key)
	}
}

// prune forgets deletions that all have heard of by now.
func (m *meta) prune(now time.Time) {
	old := uint64(now.Add(-keepDeleted).UnixNano())
	for key, v := range m.values {
		if v.deleted && v.stamp < old {
			m.remove(key)
		}
	}
}

func appendMeta(b []byte, key string, v metaValue) []byte {
	b = appendBytes(b, key)
	b = appendBytes(b, v.writer)
	b = binary.BigEndian.AppendUint64(b, v.stamp)
	b = appendBool(b, v.deleted)
	return appendBytes(b, v.value)
}

func parseMeta(p *parser) (key []byte, v metaValue) {
	key = p.text(MaxKey)
	v.writer = string(p.text(maxName))
	v.stamp, v.deleted = p.u64(), p.bool()
	v.value = slices.Clone(p.bytes(MaxValue))
	return key, v
}

// putMeta writes metadata, and tells the others.
func (c *core) putMeta(now time.Time, key string, value []byte, deleted bool) error {
	v := metaValue{value: slices.Clone(value), writer: c.own.name, deleted: deleted}
	old, had := c.meta.values[key]
	size := c.meta.size + metaSize(key, v)
	if had {
		size -= metaSize(key, old)
	}
	switch {
	case len(key) > MaxKey || !printable(key):
		return fmt.Errorf("put metadata %.80q: %w: the key is empty, longer than %d bytes or not printable", key, ErrInvalid, MaxKey)
	case len(value) > MaxValue:
		return fmt.Errorf("put metadata %q: %w: the value is longer than %d bytes", key, ErrInvalid, MaxValue)
	case deleted && (!had || old.deleted):
		return fmt.Errorf("delete metadata %q: %w", key, ErrNotFound)
	case size > maxMeta && !deleted:
		return fmt.Errorf("put metadata %q: %w: all metadata together may have %d bytes", key, ErrInvalid, maxMeta)
	}
	v.stamp = max(c.tick(now), old.stamp+1)
	c.meta.set(key, v)
	msg := appendMeta(begin(msgMeta, 64+len(key)+len(value)), key, v)
	to := c.targets
	if len(to) > c.direct {
		to = c.pick(to, fanOut(len(to)))
	}
	for _, name := range to {
		c.send(name, msg)
	}
	return nil
}

// sendMeta sends all metadata.
func (c *core) sendMeta(to string) {
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(c.meta.values)) {
		if b == nil {
			b = begin(msgMeta, 256)
		}
		if b = appendMeta(b, key, c.meta.values[key]); len(b) >= c.frame {
			c.send(to, b)
			b = nil
		}
	}
	if b != nil {
		c.send(to, b)
	}
}

// onMeta takes over what is newer, and passes on what came alone, as a write
// does.
func (c *core) onMeta(now time.Time, from string, msg []byte, p *parser) error {
	check := *p
	n := 0
	for ; len(check.b) > 0; n++ {
		parseMeta(&check)
	}
	if check.err != nil {
		return check.err
	}
	news := false
	for len(p.b) > 0 {
		k, v := parseMeta(p)
		key := string(k)
		old, had := c.meta.values[key]
		if had && !v.newer(old) {
			continue
		}
		if !had && c.meta.size+metaSize(key, v) > maxMetaReceived {
			continue
		}
		c.hear(now, v.stamp)
		c.meta.set(key, v)
		news = true
	}
	if news && n == 1 && len(c.targets) > c.direct {
		c.relay(from, from, msg)
	}
	return nil
}
