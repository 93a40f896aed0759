package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/debughost/debughost/sdk"
)

func (s *sim) create(n *simNode, a action) {
	d := s.between(5*time.Millisecond, 80*time.Millisecond)
	if s.rng.IntN(20) == 0 {
		d = s.between(0, time.Second)
	}
	n.making[a.id] = a.op
	answer := func(n *simNode, h sdk.SandboxHandle, err error) {
		if n.making[a.id] == a.op {
			delete(n.making, a.id)
		}
		n.core.created(n.instant(s), a.id, a.op, h, sdk.SandboxStatus{}, err)
	}
	if n.badBox && a.op%2 == 0 { // its plugin does not even run
		s.on(n.name, d, func(n *simNode) {
			answer(n, sdk.SandboxHandle{}, &unavailableError{sdk.ErrUnavailable})
		})
		return
	}
	if p := s.procs[a.id][n.name]; p != nil {
		delete(s.procs[a.id], n.name) // a create destroys what was there
	}
	if n.badBox {
		s.on(n.name, d, func(n *simNode) {
			answer(n, sdk.SandboxHandle{}, sdk.ErrUnavailable)
		})
		return
	}
	born, left, err := n.name, false, s.badCreate(n.name, a.id)
	if err == nil && a.take != "" {
		born, left, err = s.restore(n, a)
	}
	if err == nil || left {
		if s.procs[a.id] == nil {
			s.procs[a.id] = map[string]*proc{}
		}
		s.procs[a.id][n.name] = &proc{life: a.op, owner: n.life, born: born, has: a.spec.Bundle}
	}
	s.on(n.name, d, func(n *simNode) {
		answer(n, sdk.SandboxHandle{ID: a.id}, err)
		if s.procs[a.id][n.name] == nil {
			n.core.exited(n.instant(s), a.id, a.op, sdk.SandboxExit{Code: 1})
		}
	})
}

// giveUp ends a start that takes its time: what it has made by then is there, or not.
func (s *sim) giveUp(n *simNode, id string) {
	op := n.making[id]
	if op == 0 {
		return
	}
	delete(n.making, id)
	life := n.life
	s.on(n.name, s.between(0, 20*time.Millisecond), func(n *simNode) {
		if n.life != life || s.rng.IntN(4) == 0 { // it has not noticed
			return
		}
		if p := s.procs[id][n.name]; p != nil && p.life == op && s.rng.IntN(2) == 0 {
			delete(s.procs[id], n.name)
		}
		s.dropped++
		n.core.created(n.instant(s), id, op, sdk.SandboxHandle{}, sdk.SandboxStatus{}, context.Canceled)
	})
}

// reload puts another bundle into what runs. The member may be killed before it hears
// how that went.
func (s *sim) reload(n *simNode, a action) {
	life := n.life
	s.after(s.between(time.Millisecond, 400*time.Millisecond), func() {
		p, err := s.procs[a.id][n.name], s.badLoad(a.id)
		switch {
		case n.badBox:
			err = sdk.ErrUnavailable
		case p == nil:
			err = sdk.ErrNotFound
		case errors.Is(err, sdk.ErrPanic):
			p.has = "half of it"
		case err == nil:
			p.has = a.spec.Bundle
		}
		s.on(n.name, s.between(time.Millisecond, 40*time.Millisecond), func(n *simNode) {
			if n.life != life {
				return
			}
			err := n.core.reloaded(n.instant(s), a.id, a.op, a.reload, err)
			if err == nil {
				s.loaded++
			}
			if a.reply != nil {
				a.reply(a.reload, nil, err)
			}
		})
	})
}

// restore has a snapshot of what runs on another member.
func (s *sim) restore(n *simNode, a action) (born string, left bool, err error) {
	p, from := s.procs[a.id][a.take], s.nodes[a.take]
	switch {
	case !s.reach(n.name, a.take):
		return "", false, errors.New("that member does not answer")
	case p == nil || from.badBox || p.owner != from.life || !from.core.mayHandOver(a.id, n.name, a.run.For.Epoch):
		return "", false, errors.New("that member has nothing to hand over")
	}
	left, err = s.badHand(a.take, n.name, a.id)
	if err == nil {
		s.handed++
	}
	return p.born, left, err
}

func (s *sim) sandbox(n *simNode, a action) {
	s.on(n.name, s.between(2*time.Millisecond, 60*time.Millisecond), func(n *simNode) {
		p := s.procs[a.id][n.name]
		var err error
		switch {
		case n.badBox:
			err = sdk.ErrUnavailable
		case p == nil && a.kind != doDestroy:
			err = fmt.Errorf("%s: %w", a.id, sdk.ErrNotFound)
		case a.kind == doRecover:
			p.owner, p.life = n.life, a.op
		default:
			delete(s.procs[a.id], n.name)
		}
		switch a.kind {
		case doRecover:
			n.core.recovered(n.instant(s), a.id, a.op, sdk.SandboxStatus{}, err)
		case doStop:
			n.core.stopped(n.instant(s), a.id, a.op, nil, err)
		case doDestroy:
			n.core.destroyed(n.instant(s), a.id, a.op, err)
		}
	})
}

func (s *sim) crash(id string) { s.end(id, sdk.SandboxExit{Code: 1}) }

// end ends what runs of a child.
func (s *sim) end(id string, e sdk.SandboxExit) {
	for _, m := range s.names {
		p := s.procs[id][m]
		if p == nil {
			continue
		}
		delete(s.procs[id], m)
		if s.nodes[m].core != nil {
			s.on(m, time.Millisecond, func(n *simNode) {
				n.core.exited(n.instant(s), id, p.life, e)
			})
		}
	}
}
