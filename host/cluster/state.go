package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// share is what two members tell each other beside memberlist's own state
// whenever they compare it (push/pull).
//
//	1 (byte) | view (8 bytes) | n | n × gone | n | n × buried
//	gone:   name | id | addr | epoch (8 bytes) | left (byte, 0 or 1) | age
//	buried: name | epoch (8 bytes) | age
//
// Counts and ages (seconds) are uvarints, integers big endian, strings as in
// meta. What does not fit is left out, the longest ago first.
type share struct {
	view   uint64
	gone   []claim
	buried []burial
}

// burial tells that a member's life was forgotten. It is also the one message
// that is gossiped by itself: 1 (byte) | buried.
type burial struct {
	name  string
	epoch uint64
	age   time.Duration
}

const (
	shareVersion = 1
	buryMessage  = 1
	maxShared    = 256 // of each kind
)

func (s share) append(b []byte) []byte {
	b = append(b, shareVersion)
	b = binary.BigEndian.AppendUint64(b, s.view)
	gone := s.gone[:min(len(s.gone), maxShared)]
	b = binary.AppendUvarint(b, uint64(len(gone)))
	for _, c := range gone {
		b = appendString(b, c.name)
		b = appendString(b, c.id)
		b = appendString(b, c.addr)
		b = binary.BigEndian.AppendUint64(b, c.epoch)
		left := byte(0)
		if c.left {
			left = 1
		}
		b = append(b, left)
		b = binary.AppendUvarint(b, uint64(c.age/time.Second))
	}
	buried := s.buried[:min(len(s.buried), maxShared)]
	b = binary.AppendUvarint(b, uint64(len(buried)))
	for _, x := range buried {
		b = x.append(b)
	}
	return b
}

func parseShare(b []byte) (share, error) {
	r := reader{b: b}
	var s share
	if v := r.byte(); r.err == nil && v != shareVersion {
		r.fail(fmt.Errorf("version %d", v))
	}
	s.view = r.uint64()
	for range r.count() {
		c := claim{name: r.name(), id: r.text(64), addr: r.text(128), epoch: r.uint64()}
		left := r.byte()
		if left > 1 {
			r.fail(errors.New("a truth that is neither 0 nor 1"))
		}
		c.left = left == 1
		if c.age = r.age(); r.err != nil {
			break
		}
		s.gone = append(s.gone, c)
	}
	for range r.count() {
		x := r.burial()
		if r.err != nil {
			break
		}
		s.buried = append(s.buried, x)
	}
	if len(r.b) > 0 {
		r.fail(fmt.Errorf("%d bytes too many", len(r.b)))
	}
	if r.err != nil {
		return share{}, fmt.Errorf("parse a member's state: %w", r.err)
	}
	return s, nil
}

func (x burial) append(b []byte) []byte {
	b = appendString(b, x.name)
	b = binary.BigEndian.AppendUint64(b, x.epoch)
	return binary.AppendUvarint(b, uint64(max(0, x.age)/time.Second))
}

// message is a burial that is gossiped.
func (x burial) message() []byte { return x.append([]byte{buryMessage}) }

func parseMessage(b []byte) (burial, error) {
	r := reader{b: b}
	if kind := r.byte(); r.err == nil && kind != buryMessage {
		r.fail(fmt.Errorf("kind %d", kind))
	}
	x := r.burial()
	if len(r.b) > 0 {
		r.fail(fmt.Errorf("%d bytes too many", len(r.b)))
	}
	if r.err != nil {
		return burial{}, fmt.Errorf("parse a member's message: %w", r.err)
	}
	return x, nil
}

func (r *reader) burial() burial {
	return burial{name: r.name(), epoch: r.uint64(), age: r.age()}
}

// count reads the length of a list.
func (r *reader) count() int {
	n := r.uvarint()
	if n > maxShared {
		r.fail(fmt.Errorf("a list of %d", n))
		return 0
	}
	return int(n)
}

// age reads seconds, at most a hundred years.
func (r *reader) age() time.Duration {
	s := r.uvarint()
	if s > 100*365*24*3600 {
		r.fail(fmt.Errorf("an age of %d seconds", s))
		return 0
	}
	return time.Duration(s) * time.Second
}
