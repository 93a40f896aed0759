package registry

import (
	"hash/maphash"
	"sync/atomic"
)

// table finds a key's slot, and the record that readers see for the key. Any number
// of goroutines may get, without a lock and without waiting for each other or for
// who changes the table: a get sees the key as it was at some moment while it ran.
// The other methods belong to the core.
//
// It is a hash table with open addressing, in parts: who fills one copies that one
// part, and so never pauses for long, however many keys there are.
type table struct {
	seed  maphash.Seed
	parts [1 << partBits]atomic.Pointer[part] // by the upper bits of a key's hash
}

const (
	partBits   = 6
	firstCells = 4
)

// part is one of the tables. A copy replaces it when it is full. Who reads it
// still misses only what came after that, which is after its get began.
type part struct {
	cells []cell // a power of two of them; at least a quarter is nobody's
	used  int    // cells that are some key's
}

// cell belongs to one key, from when its hash is set until the part is replaced,
// also when the key is gone: a search that once passed the cell must pass it again.
// Key and hash never change, so that they can be read without more ado. That the
// key is here, and not only behind the record, saves a reader from waiting for the
// memory of one after that of the other.
type cell struct {
	hash atomic.Uint64 // 0: nobody's
	key  string
	rec  atomic.Pointer[record]
	slot *slot // the core's; nil: the key has no claims
}

// get returns the record of a key, and the key as the table has it; nil where
// there is none.
func (t *table) get(key string) (string, *record) {
	hash := t.hash(key)
	p := t.part(hash).Load()
	if p == nil {
		return "", nil
	}
	c, found := p.find(hash, key)
	if !found {
		return "", nil
	}
	return c.key, c.rec.Load()
}

// slot returns the slot of a key, nil where there is none.
func (t *table) slot(key string) *slot {
	if c := t.cell(key); c != nil {
		return c.slot
	}
	return nil
}

// cell returns the cell of a key, nil where it has none.
func (t *table) cell(key string) *cell {
	hash := t.hash(key)
	if p := t.part(hash).Load(); p != nil {
		if c, found := p.find(hash, key); found {
			return c
		}
	}
	return nil
}

// put takes a slot in. Its key is as it was to readers, until publish.
func (t *table) put(s *slot) {
	hash := t.hash(s.key)
	at := t.part(hash)
	p := at.Load()
	if p == nil {
		p = &part{cells: make([]cell, firstCells)}
		at.Store(p)
	}
	c, found := p.find(hash, s.key)
	if found {
		c.slot = s
		return
	}
	if (p.used+1)*4 > len(p.cells)*3 {
		p = p.copied()
		at.Store(p)
		c, _ = p.find(hash, s.key)
	}
	p.take(c, hash, s.key, s)
}

// drop takes a slot out. Its key is as it was to readers, until publish.
func (t *table) drop(s *slot) { t.cell(s.key).slot = nil }

// publish makes what counts for a key what readers get.
func (t *table) publish(key string) {
	c := t.cell(key)
	if c == nil {
		return // it came and went
	}
	var r *record
	if c.slot != nil {
		r = c.slot.winner()
	}
	if c.rec.Load() != r {
		c.rec.Store(r)
	}
}

// hash returns a key's hash, which is not 0.
func (t *table) hash(key string) uint64 { return max(maphash.String(t.seed, key), 1) }

func (t *table) part(hash uint64) *atomic.Pointer[part] { return &t.parts[hash>>(64-partBits)] }

// find returns the cell of a key, or the one that it may take.
func (p *part) find(hash uint64, key string) (c *cell, found bool) {
	for i := hash; ; i++ {
		c = &p.cells[i&uint64(len(p.cells)-1)]
		switch c.hash.Load() {
		case hash:
			if c.key == key {
				return c, true
			}
		case 0:
			return c, false
		}
	}
}

// take gives a cell to a key. The hash goes in last: a reader who finds it finds
// the rest.
func (p *part) take(c *cell, hash uint64, key string, s *slot) {
	c.key, c.slot = key, s
	c.hash.Store(hash)
	p.used++
}

// copied returns a copy without the cells of keys that are gone, and with room for
// more.
func (p *part) copied() *part {
	live, n := 0, firstCells
	for i := range p.cells {
		if !p.cells[i].free() {
			live++
		}
	}
	for n*5 < (live+1)*8 {
		n *= 2
	}
	q := &part{cells: make([]cell, n)}
	for i := range p.cells {
		c := &p.cells[i]
		if c.free() {
			continue
		}
		hash := c.hash.Load()
		to, _ := q.find(hash, c.key)
		to.rec.Store(c.rec.Load())
		q.take(to, hash, c.key, c.slot)
	}
	return q
}

// free tells whether nobody needs the cell in a copy.
func (c *cell) free() bool { return c.slot == nil && c.rec.Load() == nil }
