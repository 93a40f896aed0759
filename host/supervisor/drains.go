package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/debughost/debughost/host/supervisor/book"
)

// drain is the last word about whether a member is to take children. It is
// metadata in the registry, and in every member's book: the latest counts.
type drain struct {
	On bool  `json:"on"`
	At int64 `json:"at"` // Unix nanoseconds
}

// Drain has a member take no children and hands over those that it has; undo ends
// that. It returns when the word is out: what moves, moves after it.
func (s *Supervisor) Drain(ctx context.Context, member string, undo bool) error {
	known := false
	for _, m := range s.cfg.Members() {
		known = known || m.Name == member
	}
	if !known {
		return fmt.Errorf("drain %.200q: %w", member, ErrNoMember)
	}
	s.mu.Lock()
	d := drain{On: !undo, At: max(time.Now().UnixNano(), s.drains[member].At+1)}
	s.mu.Unlock()
	s.setDrain(member, d)
	b, err := json.Marshal(d)
	if err == nil {
		err = s.cfg.Registry.PutMeta(drainPrefix+member, b)
	}
	if err != nil {
		return fmt.Errorf("drain %s: %w", member, err)
	}
	s.look()
	return s.flush(ctx)
}

// Draining are the members that take no children, by name.
func (s *Supervisor) Draining() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for m, d := range s.drains {
		if d.On {
			out = append(out, m)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Supervisor) setDrain(member string, d drain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains[member] = d
	if s.book == nil {
		return
	}
	if b, err := json.Marshal(d); err == nil {
		s.book.Put(book.Name{Kind: bookDrain, ID: member}, b, true)
	}
}

// mergeDrains compares the registry's metadata, which no disk keeps, with what
// this member knows, and has the later word in both.
func (s *Supervisor) mergeDrains() {
	for _, m := range s.cfg.Members() {
		s.mu.Lock()
		mine, known := s.drains[m.Name]
		s.mu.Unlock()
		var theirs drain
		if b, ok := s.cfg.Registry.Meta(drainPrefix + m.Name); ok {
			_ = json.Unmarshal(b, &theirs) // else it is as if nothing was said
		}
		switch {
		case theirs.At > mine.At:
			s.setDrain(m.Name, theirs)
		case known && theirs.At < mine.At:
			if b, err := json.Marshal(mine); err == nil {
				_ = s.cfg.Registry.PutMeta(drainPrefix+m.Name, b) // it is tried again
			}
		}
	}
}
