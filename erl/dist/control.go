package dist

import (
	"errors"
	"fmt"
	"math"

	"github.com/debughost/debughost/erl/etf"
)

// Control is a control message: one signal between two processes. It is one
// flat struct for all operations, so that receiving allocates none; the table
// of Op says which fields an operation uses. The others are zero.
type Control struct {
	Op Op

	// From is the sending process. Exits of monitored processes that were
	// monitored by name have FromName instead.
	From     etf.Pid
	FromName etf.Atom

	// To is the receiving process; ToName is set instead where a registered
	// name is addressed.
	To     etf.Pid
	ToName etf.Atom

	// Ref is the monitor's reference, the spawn request's id, or the alias.
	Ref etf.Ref

	// ID is that of UNLINK_ID and its ack, 1 to 2⁶⁴−1.
	ID uint64

	// Flags are those of SPAWN_REPLY and ALTACT_SIG_SEND.
	Flags uint64

	// Reason is the exit reason of the operations that carry it in the tuple.
	// Nodes that we speak to send it as payload.
	Reason etf.Term

	// Token is the sequential trace token of the TT operations.
	Token etf.Term

	// Result of SPAWN_REPLY: etf.Pid of the new process, or etf.Atom, why not.
	Result etf.Term

	// Spawn is set for SPAWN_REQUEST only.
	Spawn *SpawnRequest

	// Other is the whole tuple of an operation that this package does not know.
	Other etf.Term
}

// SpawnRequest is what SPAWN_REQUEST has besides Ref and From.
type SpawnRequest struct {
	GroupLeader      etf.Pid
	Module, Function etf.Atom
	Arity            int
	Opts             etf.List // options of spawn_opt, such as monitor, link, {reply, error_only}
}

// parseControl reads the control tuple at the start of w.b into m, which is
// zero before, and leaves what follows it in w.b. If only a free term of the
// tuple does not decode, w.soft says so, m has what came before it, and what
// follows the tuple is out of reach.
func (w *wire) parseControl(m *Control) error {
	start := w.b
	arity := w.tuple()
	op := w.uint()
	if w.err != nil {
		return w.err
	}
	if op > math.MaxUint8 || !Op(op).known() {
		// The number stays visible in Other.
		w.b = start
		m.Other = w.any()
		return w.err
	}
	m.Op = Op(op)
	if least, most := m.Op.arity(); arity < least || arity > most {
		return fmt.Errorf("%v as a tuple of %d", m.Op, arity)
	}
	switch m.Op {
	case OpLink, OpUnlink, OpGroupLeader, OpSendSender, OpPayloadExit, OpPayloadExit2:
		m.From, m.To = w.pid(), w.pid()
	case OpSendSenderTT, OpPayloadExitTT, OpPayloadExit2TT:
		m.From, m.To, m.Token = w.pid(), w.pid(), w.any()
	case OpSend:
		w.any()
		m.To = w.pid()
	case OpSendTT:
		w.any()
		m.To, m.Token = w.pid(), w.any()
	case OpExit, OpExit2:
		m.From, m.To, m.Reason = w.pid(), w.pid(), w.any()
	case OpExitTT, OpExit2TT:
		m.From, m.To, m.Token, m.Reason = w.pid(), w.pid(), w.any(), w.any()
	case OpRegSend, OpRegSendTT:
		m.From = w.pid()
		w.any()
		m.ToName = w.atom()
		if m.Op == OpRegSendTT {
			m.Token = w.any()
		}
	case OpMonitorP, OpDemonitorP:
		m.From = w.pid()
		m.To, m.ToName = w.pidOrName()
		m.Ref = w.ref()
	case OpMonitorPExit, OpPayloadMonitorPExit:
		m.From, m.FromName = w.pidOrName()
		m.To, m.Ref = w.pid(), w.ref()
		if m.Op == OpMonitorPExit {
			m.Reason = w.any()
		}
	case OpSpawnRequest, OpSpawnRequestTT:
		w.parseSpawn(m)
	case OpSpawnReply, OpSpawnReplyTT:
		m.Ref, m.To, m.Flags, m.Result = w.ref(), w.pid(), w.uint(), w.any()
		if m.Op == OpSpawnReplyTT {
			m.Token = w.any()
		}
	case OpAliasSend:
		m.From, m.Ref = w.pid(), w.ref()
	case OpAliasSendTT:
		m.From, m.Ref, m.Token = w.pid(), w.ref(), w.any()
	case OpUnlinkID, OpUnlinkIDAck:
		m.ID, m.From, m.To = w.uint(), w.pid(), w.pid()
	case OpAltactSig:
		w.parseAltact(m, arity)
	}
	return w.err
}

func (w *wire) parseSpawn(m *Control) {
	s := &SpawnRequest{}
	m.Spawn = s
	m.Ref, m.From, s.GroupLeader = w.ref(), w.pid(), w.pid()
	if n := w.tuple(); n != 3 && w.err == nil {
		w.fail(fmt.Errorf("entry point as a tuple of %d", n))
	}
	s.Module, s.Function = w.atom(), w.atom()
	s.Arity = int(min(w.uint(), math.MaxInt32))
	opts := w.any()
	if w.err == nil && w.soft == nil {
		list, ok := opts.(etf.List)
		if !ok {
			w.fail(errors.New("spawn options are not a list"))
		}
		s.Opts = list
	}
	if m.Op == OpSpawnRequestTT {
		m.Token = w.any()
	}
}

// parseAltact reads a signal whose flags say what it is. Later releases may
// have added elements at the end.
func (w *wire) parseAltact(m *Control, arity int) {
	m.Flags, m.From = w.uint(), w.pid()
	switch {
	case m.Flags&AltactAlias != 0:
		m.Ref = w.ref()
	case m.Flags&AltactName != 0:
		m.ToName = w.atom()
	default:
		m.To = w.pid()
	}
	read := 4
	if m.Flags&AltactToken != 0 {
		if arity < 5 {
			w.fail(errors.New("no token"))
		}
		m.Token = w.any()
		read = 5
	}
	for ; read < arity && w.err == nil && w.soft == nil; read++ {
		w.any()
	}
}

// appendControl writes the control tuple of m.
func appendControl(dst []byte, m *Control) ([]byte, error) {
	e := encoder{b: dst}
	least, _ := m.Op.arity()
	if m.Op == OpAltactSig && m.Flags&AltactToken != 0 {
		least++
	}
	e.b = append(e.b, tagSmallTuple, byte(least), tagSmallInt, byte(m.Op))
	switch m.Op {
	case OpLink, OpUnlink, OpGroupLeader, OpSendSender, OpPayloadExit, OpPayloadExit2:
		e.pids(m.From, m.To)
	case OpSendSenderTT, OpPayloadExitTT, OpPayloadExit2TT:
		e.pids(m.From, m.To)
		e.any(m.Token)
	case OpSend, OpSendTT:
		e.atom("")
		e.pids(m.To)
		if m.Op == OpSendTT {
			e.any(m.Token)
		}
	case OpExit, OpExit2:
		e.pids(m.From, m.To)
		e.any(m.Reason)
	case OpExitTT, OpExit2TT:
		e.pids(m.From, m.To)
		e.any(m.Token)
		e.any(m.Reason)
	case OpRegSend, OpRegSendTT:
		e.pids(m.From)
		e.atom("")
		e.atom(m.ToName)
		if m.Op == OpRegSendTT {
			e.any(m.Token)
		}
	case OpMonitorP, OpDemonitorP:
		e.pids(m.From)
		e.pidOrName(m.To, m.ToName)
		e.ref(m.Ref)
	case OpMonitorPExit, OpPayloadMonitorPExit:
		e.pidOrName(m.From, m.FromName)
		e.pids(m.To)
		e.ref(m.Ref)
		if m.Op == OpMonitorPExit {
			e.any(m.Reason)
		}
	case OpSpawnRequest, OpSpawnRequestTT:
		e.spawn(m)
	case OpSpawnReply, OpSpawnReplyTT:
		e.ref(m.Ref)
		e.pids(m.To)
		e.uint(m.Flags)
		e.any(m.Result)
		if m.Op == OpSpawnReplyTT {
			e.any(m.Token)
		}
	case OpAliasSend, OpAliasSendTT:
		e.pids(m.From)
		e.ref(m.Ref)
		if m.Op == OpAliasSendTT {
			e.any(m.Token)
		}
	case OpUnlinkID, OpUnlinkIDAck:
		e.uint(m.ID)
		e.pids(m.From, m.To)
	case OpAltactSig:
		e.altact(m)
	default:
		return dst, fmt.Errorf("encode control message: unknown operation %d", m.Op)
	}
	if e.err != nil {
		return dst, fmt.Errorf("encode %v: %w", m.Op, e.err)
	}
	return e.b, nil
}

// encoder appends the elements of a control tuple and keeps the first error.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) keep(b []byte, err error) {
	e.b = b
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) uint(v uint64)   { e.b = etf.AppendUint(e.b, v) }
func (e *encoder) atom(a etf.Atom) { e.keep(etf.AppendAtom(e.b, a)) }
func (e *encoder) ref(r etf.Ref)   { e.keep(etf.AppendRef(e.b, r)) }

func (e *encoder) pids(pids ...etf.Pid) {
	for _, p := range pids {
		e.keep(etf.AppendPid(e.b, p))
	}
}

func (e *encoder) pidOrName(p etf.Pid, name etf.Atom) {
	if name != "" {
		e.atom(name)
		return
	}
	e.pids(p)
}

func (e *encoder) any(t etf.Term) {
	if t == nil {
		e.keep(e.b, errors.New("a term is missing"))
		return
	}
	e.keep(etf.Append(e.b, t))
}

func (e *encoder) spawn(m *Control) {
	s := m.Spawn
	if s == nil {
		e.keep(e.b, errors.New("no spawn request"))
		return
	}
	e.ref(m.Ref)
	e.pids(m.From, s.GroupLeader)
	e.b = append(e.b, tagSmallTuple, 3)
	e.atom(s.Module)
	e.atom(s.Function)
	e.uint(uint64(s.Arity))
	e.any(s.Opts)
	if m.Op == OpSpawnRequestTT {
		e.any(m.Token)
	}
}

func (e *encoder) altact(m *Control) {
	e.uint(m.Flags)
	e.pids(m.From)
	switch {
	case m.Flags&AltactAlias != 0:
		e.ref(m.Ref)
	case m.Flags&AltactName != 0:
		e.atom(m.ToName)
	default:
		e.pids(m.To)
	}
	if m.Flags&AltactToken != 0 {
		e.any(m.Token)
	}
}
