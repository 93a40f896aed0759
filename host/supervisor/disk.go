package supervisor

import (
	"encoding/json"
	"fmt"

	"github.com/debughost/debughost/host/supervisor/book"
)

// The kinds of what is in the book.
const (
	bookRecord = "record/" // the record of a child
	bookLocal  = "local/"  // what this member alone has of it
	bookDrain  = "drain/"  // of a member
)

// local is what a member keeps of a child for a later life of itself.
type local struct {
	Run     *run    `json:"run,omitempty"`
	History []Entry `json:"history,omitempty"`
}

// load opens the book and has the core take over what is in it.
func (s *Supervisor) load() error {
	if s.cfg.Path == "" {
		return nil
	}
	var recs []record
	locals := map[string]local{}
	b, damaged, err := book.Open(s.cfg.Path, func(name book.Name, value []byte) error {
		id := name.ID
		switch name.Kind {
		case bookRecord:
			r, err := parseRecord(value)
			if err != nil {
				s.cfg.Log.WithField("child", id).WithField("err", err).Error("a child's record cannot be read, and is left out")
				return nil
			}
			if r.ID == id {
				r.ID = id // of which there is one then
			}
			recs = append(recs, r)
		case bookLocal:
			var l local
			if err := json.Unmarshal(value, &l); err != nil {
				return err
			}
			locals[id] = l
		case bookDrain:
			var d drain
			if err := json.Unmarshal(value, &d); err != nil {
				return err
			}
			s.drains[id] = d
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	if damaged > 0 {
		s.cfg.Log.WithField("bytes", damaged).WithField("kept", s.cfg.Path+book.DamagedSuffix).
			Error("the supervisor's book was damaged: what can be read of it is in force, and other members may have the rest")
	}
	s.book = b
	runs, histories := map[string]*run{}, map[string][]Entry{}
	for id, l := range locals {
		runs[id], histories[id] = l.Run, l.History
	}
	s.core.load(s.now(), recs, runs, histories)
	s.queue = s.core.take()
	s.put(s.queue)
	if len(s.queue) > 0 {
		wake(s.wake)
	}
	return nil
}

// put hands what is to be on disk to the book. What this member alone has of a child is
// written once, where several things have happened to it at a time. The caller has mu.
func (s *Supervisor) put(actions []action) {
	local := ""
	for i := range actions {
		a := &actions[i]
		if a.kind != doKeep && a.kind != doNote {
			s.putOne(a)
			continue
		}
		if local != "" && local != a.id {
			s.putLocal(local)
		}
		local = a.id
	}
	if local != "" {
		s.putLocal(local)
	}
}

func (s *Supervisor) putOne(a *action) {
	if a.kind == doCreate && a.run.Restarts > 0 && a.run.hitch().tries == 0 {
		s.restarts++
	}
	if s.book == nil {
		return
	}
	switch a.kind {
	case doSave:
		s.lastPut = s.book.Put(book.Name{Kind: bookRecord, ID: a.id}, a.rec.encode(), true)
	case doForget:
		s.book.Delete(book.Name{Kind: bookRecord, ID: a.id})
		s.book.Delete(book.Name{Kind: bookLocal, ID: a.id})
	}
}

// putLocal keeps what this member has of a child: while there is a run, or it is
// the one that the child is assigned to.
func (s *Supervisor) putLocal(id string) {
	if s.book == nil {
		return
	}
	name := book.Name{Kind: bookLocal, ID: id}
	ch := s.core.children[id]
	switch {
	case ch == nil || ch.run == nil && (ch.rec.removed() || ch.rec.Assignment.Member != s.cfg.Member):
		s.book.Delete(name)
	default:
		b, err := json.Marshal(local{Run: ch.run, History: ch.entries()})
		if err == nil { // there is nothing in it that could fail
			s.book.Put(name, b, false)
		}
	}
}
