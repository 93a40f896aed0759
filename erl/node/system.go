package node

import (
	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// netKernel is the name that other nodes ask whether we are there.
const netKernel = "net_kernel"

// What of a message to the node itself is looked at: the requests answered
// here are small.
var systemLimits = etf.Limits{MaxDepth: 8, MaxElements: 64, MaxCompressed: 1, MaxBig: 8}

// system answers the two kinds of messages that are for the node itself, and
// drops all others:
//
//	{'$gen_call', {Pid, Tag}, {is_auth, Node}}   net_adm:ping/1, yes
//	{io_request, Pid, ReplyAs, Request}          output of what we spawned
func (p *Peer) system(m *dist.Message) {
	raw, err := body(m.Payload)
	if err != nil {
		p.node.stats.unknownReceiver.Add(1)
		return
	}
	req := parseSystem(raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case req.reply == nil:
		p.node.stats.unknownReceiver.Add(1)
	case req.alias != etf.Ref{}:
		_ = p.signal(dist.Control{Op: dist.OpAliasSend, From: p.node.system, Ref: req.alias}, req.reply)
	default:
		_ = p.signal(dist.Control{Op: p.sendOp(), From: p.node.system, To: req.from}, req.reply)
	}
}

// systemRequest is what is known of a message to the node itself.
type systemRequest struct {
	from  etf.Pid
	alias etf.Ref  // instead of from, where the answer goes to an alias
	reply etf.Term // nil: no answer
}

// parseSystem reads a message to the node itself. Only its head is decoded: of
// an io_request the text may be long.
func parseSystem(raw []byte) systemRequest {
	if len(raw) < 2 || raw[0] != tagSmallTuple {
		return systemRequest{}
	}
	d := etf.NewDecoder(systemLimits)
	arity, rest := int(raw[1]), raw[2:]
	var head [3]etf.Term
	for i := range min(arity, len(head)) {
		var err error
		if head[i], rest, err = d.DecodeBodyPrefix(rest); err != nil {
			return systemRequest{}
		}
	}
	switch {
	case arity == 3 && head[0] == etf.Atom("$gen_call"):
		return parseGenCall(head[1], head[2])
	case arity == 4 && head[0] == etf.Atom("io_request"):
		return parseIORequest(d, head[1], head[2], rest)
	}
	return systemRequest{}
}

// parseGenCall reads a gen_server call. Its tag is a reference, or, if the
// answer is to go to an alias, [alias | Ref] or [[alias | Ref] | …].
func parseGenCall(from, req etf.Term) systemRequest {
	pair, ok1 := from.(etf.Tuple)
	auth, ok2 := req.(etf.Tuple)
	if !ok1 || !ok2 || len(pair) != 2 || len(auth) != 2 || auth[0] != etf.Atom("is_auth") {
		return systemRequest{}
	}
	pid, ok := pair[0].(etf.Pid)
	if !ok {
		return systemRequest{}
	}
	return systemRequest{from: pid, alias: aliasOf(pair[1]), reply: etf.Tuple{pair[1], etf.Atom("yes")}}
}

// aliasOf finds the alias in a tag; it is zero without one.
func aliasOf(tag etf.Term) etf.Ref {
	if list, ok := tag.(etf.List); ok && len(list) > 0 {
		return aliasOf(list[0])
	}
	cons, ok := tag.(etf.ImproperList)
	if !ok {
		return etf.Ref{}
	}
	if inner, ok := cons.Elems[0].(etf.ImproperList); ok {
		return aliasOf(inner)
	}
	ref, ok := cons.Tail.(etf.Ref)
	if !ok || len(cons.Elems) != 1 || cons.Elems[0] != etf.Atom("alias") {
		return etf.Ref{}
	}
	return ref
}

// parseIORequest makes a called function that prints go on: text is taken and
// thrown away, input is not to be had.
func parseIORequest(d *etf.Decoder, from, replyAs etf.Term, rest []byte) systemRequest {
	pid, ok := from.(etf.Pid)
	if !ok {
		return systemRequest{}
	}
	var result etf.Term = etf.Tuple{etf.Atom("error"), etf.Atom("enotsup")}
	if len(rest) > 2 && rest[0] == tagSmallTuple {
		if kind, _, err := d.DecodeBodyPrefix(rest[2:]); err == nil && kind == etf.Atom("put_chars") {
			result = etf.Atom("ok")
		}
	}
	return systemRequest{from: pid, reply: etf.Tuple{etf.Atom("io_reply"), replyAs, result}}
}

// tagSmallTuple is SMALL_TUPLE_EXT.
const tagSmallTuple = 104
