package dist

import (
	"fmt"
	"time"
)

// sequence is a message that has come in part.
type sequence struct {
	id    uint64
	left  uint64 // number of the last fragment that came; 1 is the end
	msg   Message
	body  []byte
	heard time.Time // when the last fragment came
}

// sequences holds the messages that have come in part, by the sequence ids of
// the peer, within the limits of the Config.
type sequences struct {
	cfg  *Config
	byID map[uint64]*sequence
	held int // bytes in all bodies
}

func (q *sequences) init(cfg *Config) {
	q.cfg = cfg
	q.byID = make(map[uint64]*sequence)
}

// start begins the sequence id with its first fragment.
func (q *sequences) start(id, left uint64) (*sequence, error) {
	if left == 0 {
		return nil, fmt.Errorf("%w: a message of no fragments", ErrProtocol)
	}
	if _, ok := q.byID[id]; ok {
		return nil, fmt.Errorf("%w: sequence %#x starts twice", ErrProtocol, id)
	}
	if len(q.byID) >= q.cfg.MaxSequences {
		q.forgetSilent(nil)
	}
	if len(q.byID) >= q.cfg.MaxSequences {
		return nil, fmt.Errorf("%w: %d messages in fragments at once", ErrTooLarge, len(q.byID)+1)
	}
	s := &sequence{id: id, left: left, heard: time.Now()}
	q.byID[id] = s
	return s, nil
}

// next finds the sequence that a further fragment belongs to.
func (q *sequences) next(id, left uint64) (*sequence, error) {
	s := q.byID[id]
	if s == nil {
		return nil, fmt.Errorf("%w: sequence %#x was never started", ErrProtocol, id)
	}
	if left == 0 || left != s.left-1 {
		return nil, fmt.Errorf("%w: fragment %d of sequence %#x follows %d", ErrProtocol, left, id, s.left)
	}
	s.left = left
	s.heard = time.Now()
	return s, nil
}

// admit reports whether n more bytes of s may be kept. If not, the message
// loses its payload: what it held is freed and what still comes is skipped.
func (q *sequences) admit(s *sequence, n int, left uint64) bool {
	if s.msg.Payload.err != nil {
		return false
	}
	if len(s.body)+n > q.cfg.MaxMessage {
		q.drop(s)
		return false
	}
	if q.held+n > q.cfg.MaxReassembly {
		q.forgetSilent(s)
		if q.held+n > q.cfg.MaxReassembly {
			q.drop(s)
			return false
		}
	}
	q.held += n
	return true
}

// expect is how large the body will be in the end, as far as one fragment of n
// bytes, with left-1 more to come, lets guess.
func (s *sequence) expect(n int, left uint64) int {
	const sane = 1 << 40
	return len(s.body) + n*int(min(left, sane/uint64(max(n, 1))))
}

// drop frees the payload of s and remembers why.
func (q *sequences) drop(s *sequence) {
	q.held -= len(s.body)
	s.body = nil
	s.msg.Payload = Payload{err: fmt.Errorf("receive fragments: %w", ErrTooLarge)}
}

// forgetSilent frees, when room is short, what has not grown for a tick time.
// A node sends the fragments of one message one after the other, so such a
// message will hardly ever be completed. If it is, it has no payload. Without a
// sequence to make room for (forWhom) it is the number that counts: then they
// are removed, and a further fragment is one of a sequence never started.
func (q *sequences) forgetSilent(forWhom *sequence) {
	before := time.Now().Add(-q.cfg.TickTime)
	for _, s := range q.byID {
		if s == forWhom || !s.heard.Before(before) {
			continue
		}
		if s.msg.Payload.err == nil {
			q.drop(s)
		}
		if forWhom == nil {
			q.remove(s)
		}
	}
}

// remove takes a complete sequence out.
func (q *sequences) remove(s *sequence) {
	q.held -= len(s.body)
	delete(q.byID, s.id)
}
