package node

import (
	"context"
	"fmt"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// SpawnOptions tie a new process to a mailbox, from its start.
type SpawnOptions struct {
	// Mailbox is the parent: what Link and Monitor tie the process to. Without
	// it they mean nothing.
	Mailbox *Mailbox
	Link    bool
	Monitor bool
	// Ref, if not nil, is set to the reference of the monitor.
	Ref *etf.Ref
	// Opts are further options of spawn_opt, such as {priority, low}.
	Opts etf.List
}

// Spawn starts a process on the node that applies a function to args, and
// returns when it runs. When ctx ends first the process is killed. Its group
// leader is our node: what it prints is thrown away, and once the connection
// has ended its attempts to print fail.
func (p *Peer) Spawn(ctx context.Context, module, function string, args []etf.Term, o SpawnOptions) (etf.Pid, error) {
	ref, num := p.node.ids.ref()
	r := &request{from: p.node.ids.callPid(), ref: ref, ch: make(chan outcome, 1), spawn: &o}
	opts := append(etf.List{}, o.Opts...)
	if o.Mailbox == nil {
		o.Link, o.Monitor = false, false
	} else {
		r.from = o.Mailbox.pid
	}
	if o.Link {
		opts = append(opts, etf.Atom("link"))
	}
	if o.Monitor {
		opts = append(opts, etf.Atom("monitor"))
	}
	spawn := dist.SpawnRequest{
		GroupLeader: p.node.system, Module: etf.Atom(module), Function: etf.Atom(function), Arity: len(args), Opts: opts,
	}
	out, err := p.request(ctx, num, r, &spawn, etf.List(args))
	if err == nil {
		err = out.err
	}
	if err != nil {
		return etf.Pid{}, fmt.Errorf("spawn %s on %s: %w", mfa(module, function, len(args)), p.name, err)
	}
	if o.Ref != nil && o.Monitor {
		*o.Ref = ref
	}
	return out.pid, nil
}

// tie enters the link and the monitor that a spawn asked for, before anything
// else of the new process is read. If the mailbox was closed meanwhile they
// are ended at once; p.mu is held.
func (p *Peer) tie(num uint64, r *request, pid etf.Pid) {
	o := r.spawn
	if o.Mailbox == nil {
		return
	}
	if o.Link {
		p.links.link(linkKey{o.Mailbox.num, pid})
	}
	if o.Monitor {
		p.monitors[num] = monitor{mailbox: o.Mailbox, target: pid}
	}
	if !o.Mailbox.isClosed() {
		return
	}
	if o.Monitor {
		p.demonitor(num, p.monitors[num])
	}
	if o.Link {
		delete(p.links.entries, linkKey{o.Mailbox.num, pid})
		_ = p.signalReason(dist.Control{Op: dist.OpExit, From: o.Mailbox.pid, To: pid}, noproc)
	}
}
