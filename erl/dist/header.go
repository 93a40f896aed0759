package dist

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/debughost/debughost/erl/etf"
)

// The kinds of packets after the handshake, told by their first bytes.
const (
	passThrough = 112 // 'p', then version byte and control, version byte and payload

	distHeader   = 68 // 131, 68, atoms, control, payload
	distFragment = 69 // 131, 69, sequence, fragment, atoms, control, start of the payload
	distContinue = 70 // 131, 70, sequence, fragment, more of the payload

	fragmentHeader = 1 + 1 + 8 + 8

	maxHeaderAtoms = 255
)

const (
	cacheSegments = 8
	cacheSize     = cacheSegments * 256
)

// atomCache is the receiving half of the atom cache of one connection: what
// the peer has told its numbers to mean. Its zero value is empty.
type atomCache struct {
	entries []cacheEntry // cacheSize of them once one was set
}

type cacheEntry struct {
	atom etf.Atom
	set  bool
}

// parse reads the part of a distribution header that lists atoms: how many,
// their flags, and for each either a number of the cache or a new entry. It
// appends the atoms to refs, in the order by which ATOM_CACHE_REF counts them.
func (c *atomCache) parse(b []byte, refs []etf.Atom) (atoms []etf.Atom, rest []byte, err error) {
	if len(b) == 0 {
		return refs, nil, errHeader
	}
	n := int(b[0])
	b = b[1:]
	if n == 0 {
		return refs, b, nil
	}
	nflags := n/2 + 1
	if len(b) < nflags {
		return refs, nil, errHeader
	}
	flags := b[:nflags]
	b = b[nflags:]
	long := nibble(flags, n)&1 != 0
	for i := range n {
		if len(b) == 0 {
			return refs, nil, errHeader
		}
		f := nibble(flags, i)
		at := int(f&7)<<8 | int(b[0])
		b = b[1:]
		if f&8 != 0 {
			if b, err = c.define(at, b, long); err != nil {
				return refs, nil, err
			}
		}
		if c.entries == nil || !c.entries[at].set {
			return refs, nil, fmt.Errorf("distribution header: entry %d of the atom cache was never set", at)
		}
		refs = append(refs, c.entries[at].atom)
	}
	return refs, b, nil
}

// define reads the text of a new entry.
func (c *atomCache) define(at int, b []byte, long bool) (rest []byte, err error) {
	n, width := 0, 1
	if long {
		width = 2
	}
	if len(b) < width {
		return nil, errHeader
	}
	if long {
		n = int(binary.BigEndian.Uint16(b))
	} else {
		n = int(b[0])
	}
	b = b[width:]
	if n > len(b) {
		return nil, errHeader
	}
	raw := b[:n]
	if n > maxAtomBytes || !utf8.Valid(raw) || utf8.RuneCount(raw) > maxAtomRunes {
		return nil, fmt.Errorf("distribution header: bad atom of %d bytes", n)
	}
	if c.entries == nil {
		c.entries = make([]cacheEntry, cacheSize)
	}
	if e := &c.entries[at]; !e.set || string(raw) != string(e.atom) {
		*e = cacheEntry{etf.Atom(raw), true}
	}
	return b[n:], nil
}

// nibble returns the i-th half byte, the lower one of a byte first.
func nibble(b []byte, i int) byte { return b[i/2] >> (4 * (i & 1)) & 15 }

var errHeader = fmt.Errorf("distribution header ends early")
