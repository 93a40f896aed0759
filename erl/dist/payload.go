package dist

import (
	"sync"

	"github.com/debughost/debughost/erl/etf"
)

// Payload is the term that follows a control message, still encoded: it is
// decoded by who needs it, where they need it, and a term that does not decode
// is an error of its message only. A Payload may be kept, and read by several
// goroutines; its bytes are never written again.
type Payload struct {
	body  []byte     // the term without the version byte
	atoms []etf.Atom // what ATOM_CACHE_REF in it refers to
	err   error      // why body is missing although the message had one
}

// Empty reports whether the message had no payload.
func (p Payload) Empty() bool { return len(p.body) == 0 && p.err == nil }

// Len is the size in bytes.
func (p Payload) Len() int { return len(p.body) }

// Err is not nil if the message had a payload that was dropped: ErrTooLarge.
func (p Payload) Err() error { return p.err }

// Body is the encoded term without the version byte 131. It is standalone
// unless Atoms is not empty.
func (p Payload) Body() []byte { return p.body }

// Atoms are the atoms that ATOM_CACHE_REF tags in Body index. Nil unless the
// atom cache was negotiated.
func (p Payload) Atoms() []etf.Atom { return p.atoms }

// Decode reads the payload with d, which is reused for many, and is left with
// the atoms of this payload. It may be called more than once.
func (p Payload) Decode(d *etf.Decoder) (etf.Term, error) {
	if p.err != nil {
		return nil, p.err
	}
	if len(p.body) == 0 {
		return nil, ErrNoPayload
	}
	d.SetCache(p.atoms)
	return d.DecodeBody(p.body)
}

var decoders = sync.Pool{New: func() any { return etf.NewDecoder(etf.Limits{}) }}

// Term reads the payload within the default limits of package etf.
func (p Payload) Term() (etf.Term, error) {
	d := decoders.Get().(*etf.Decoder)
	defer decoders.Put(d)
	return p.Decode(d)
}
