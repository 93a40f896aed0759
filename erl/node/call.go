package node

import (
	"context"
	"fmt"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// request is a spawn request that the peer has not settled yet.
//
// A call is settled by the end of its process, a spawn by its reply. What its
// caller gave up before the reply stays in the table, to kill the process when
// the reply tells its pid.
type request struct {
	from      etf.Pid
	ref       etf.Ref
	ch        chan outcome  // one place: an answer never waits for the caller
	spawn     *SpawnOptions // nil for a call
	worker    etf.Pid       // of a call, once the reply has told it
	abandoned bool
}

// outcome is how a request was settled.
type outcome struct {
	payload dist.Payload // exit reason of a call's process
	reason  etf.Term     // the same of a peer that puts it into the signal
	pid     etf.Pid      // of a spawn
	err     error
}

func (r *request) answer(o outcome) { r.ch <- o }

// Call calls a function on the node by erpc and returns its result. Arguments
// are what etf encodes; module and function become atoms there.
//
// When ctx ends first the process that runs the function is killed, and the
// error wraps ctx's. An exception is a *CallError, a node that starts no
// process a *SpawnError, the end of the connection a *NodeDownError: then it
// is not known whether the function ran. A result that does not decode is an
// error of this call only.
func (p *Peer) Call(ctx context.Context, module, function string, args ...etf.Term) (etf.Term, error) {
	b, err := p.CallRaw(ctx, module, function, args...)
	if err != nil {
		return nil, err
	}
	t, err := p.node.decode(b)
	if err != nil {
		return nil, p.callError(module, function, args, fmt.Errorf("decode result: %w", err))
	}
	return t, nil
}

// CallRaw is Call that returns the result encoded, without the version byte.
func (p *Peer) CallRaw(ctx context.Context, module, function string, args ...etf.Term) ([]byte, error) {
	o, ref, err := p.execute(ctx, module, function, args)
	if err == nil {
		err = o.err
	}
	if err != nil {
		return nil, p.callError(module, function, args, err)
	}
	raw, err := o.encoded()
	if err != nil {
		return nil, p.callError(module, function, args, err)
	}
	result, exc, err := parseResult(raw, ref, p.node.decode)
	if err != nil {
		return nil, p.callError(module, function, args, err)
	}
	if exc != nil {
		exc.Node, exc.Module, exc.Function, exc.Arity = p.name, module, function, len(args)
		return nil, exc
	}
	return result, nil
}

func (o *outcome) encoded() ([]byte, error) {
	if o.reason != nil {
		return etf.Append(nil, o.reason)
	}
	return body(o.payload)
}

func (p *Peer) callError(module, function string, args []etf.Term, err error) error {
	return fmt.Errorf("call %s on %s: %w", mfa(module, function, len(args)), p.name, err)
}

func mfa(module, function string, arity int) string {
	return etf.FormatMFA(etf.Atom(module), etf.Atom(function), arity, etf.Erlang)
}

// execute starts the process of a call and waits for its end.
func (p *Peer) execute(ctx context.Context, module, function string, args []etf.Term) (outcome, etf.Ref, error) {
	ref, num := p.node.ids.ref()
	r := &request{from: p.node.ids.callPid(), ref: ref, ch: make(chan outcome, 1)}
	payload := etf.List{ref, etf.Atom(module), etf.Atom(function), etf.List(args)}
	spawn := dist.SpawnRequest{GroupLeader: p.node.system, Module: "erpc", Function: "execute_call", Arity: 4, Opts: monitorOpts}
	o, err := p.request(ctx, num, r, &spawn, payload)
	return o, ref, err
}

var monitorOpts = etf.List{etf.Atom("monitor")}

// request sends a spawn request and waits until it is settled, or given up.
func (p *Peer) request(ctx context.Context, num uint64, r *request, spawn *dist.SpawnRequest, args etf.Term) (outcome, error) {
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	if err := p.expect(num, r); err != nil {
		return outcome{}, err
	}
	c := dist.Control{Op: dist.OpSpawnRequest, Ref: r.ref, From: r.from, Spawn: spawn}
	if err := p.conn.Send(ctx, &c, args); err != nil {
		p.mu.Lock()
		delete(p.pending, num)
		p.mu.Unlock()
		return outcome{}, p.sendError(err)
	}
	select {
	case o := <-r.ch:
		return o, nil
	case <-p.done:
		select {
		case o := <-r.ch: // it came just before the end
			return o, nil
		default:
			return outcome{}, p.nodeDown()
		}
	case <-ctx.Done():
		p.abandon(num)
		return outcome{}, ctx.Err()
	}
}

// expect puts a request into the table.
func (p *Peer) expect(num uint64, r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.closing {
		return p.nodeDownLocked()
	}
	p.pending[num] = r
	return nil
}

// abandon gives a request up: its process is killed now, or when its pid is
// known. Errors of the signals mean that the connection has ended, and then
// the process cannot be reached.
func (p *Peer) abandon(num uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.pending[num]
	switch {
	case r == nil: // settled meanwhile
	case r.worker == etf.Pid{}:
		r.abandoned = true
	default:
		delete(p.pending, num)
		p.killWorker(r, r.worker)
	}
}

// killWorker ends the process of a request that nobody waits for; p.mu is
// held.
func (p *Peer) killWorker(r *request, worker etf.Pid) {
	_ = p.signal(dist.Control{Op: dist.OpDemonitorP, From: r.from, To: worker, Ref: r.ref}, nil)
	_ = p.signalReason(dist.Control{Op: dist.OpExit2, From: r.from, To: worker}, kill)
}

// spawned is a SPAWN_REPLY.
func (p *Peer) spawned(m *dist.Message) {
	num, ok := p.node.ids.refNumber(m.Ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.pending[num]
	if !ok || r == nil {
		p.node.stats.lateReplies.Add(1)
		return
	}
	pid, ok := m.Result.(etf.Pid)
	switch {
	case !ok:
		delete(p.pending, num)
		reason, _ := m.Result.(etf.Atom)
		r.answer(outcome{err: &SpawnError{Node: p.name, Reason: reason}})
	case r.abandoned:
		delete(p.pending, num)
		p.killWorker(r, pid)
	case r.spawn == nil:
		r.worker = pid
	default:
		delete(p.pending, num)
		p.tie(num, r, pid)
		r.answer(outcome{pid: pid})
	}
}
