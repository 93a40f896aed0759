package target

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// rowReader turns rows as the agent sends them into Processes. The functions of
// a hundred thousand rows are a few dozen, and are written out once each.
type rowReader struct {
	node string
	mfas map[mfa]string
	note func(etf.Pid)
}

type mfa struct {
	module, function etf.Atom
	arity            etf.Int
}

func (t *target) rows(link *node.Peer) *rowReader {
	return &rowReader{node: link.Name(), mfas: map[mfa]string{}, note: t.shown.note}
}

// row reads {Pid, Name | [], Memory, Reductions, QueueLen, MFA, MFA, Status, Rate}.
func (r *rowReader) row(t etf.Term) (Process, error) {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 9 {
		return Process{}, fmt.Errorf("read a row of %s: got %s", r.node, printed(t))
	}
	pid, ok := e[0].(etf.Pid)
	if !ok {
		return Process{}, fmt.Errorf("read a row of %s: no pid in %s", r.node, printed(t))
	}
	r.note(pid)
	p := Process{
		Node: r.node, Pid: pidText(pid),
		Memory: count(e[2]), Reductions: count(e[3]), MessageQueueLen: count(e[4]),
		CurrentFunction: r.mfa(e[5]), InitialCall: r.mfa(e[6]),
	}
	if name, ok := e[1].(etf.Atom); ok {
		p.RegisteredName = string(name)
	}
	if status, ok := e[7].(etf.Atom); ok {
		p.Status = string(status)
	}
	switch rate := e[8].(type) {
	case etf.Float:
		p.Rate = float64(rate)
	case etf.Int:
		p.Rate = float64(rate)
	}
	return p, nil
}

func (r *rowReader) all(t etf.Term) ([]Process, error) {
	list, ok := etf.Elements(t)
	if !ok {
		return nil, fmt.Errorf("read the rows of %s: got %s", r.node, printed(t))
	}
	out := make([]Process, 0, len(list))
	for _, e := range list {
		p, err := r.row(e)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// mfa writes {M, F, A} as mod:fun/arity; anything else (OTP says undefined for
// a process without a current function) as nothing.
func (r *rowReader) mfa(t etf.Term) string {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 3 {
		return ""
	}
	var key mfa
	var okM, okF, okA bool
	key.module, okM = e[0].(etf.Atom)
	key.function, okF = e[1].(etf.Atom)
	key.arity, okA = e[2].(etf.Int)
	if !okM || !okF || !okA {
		return ""
	}
	s, ok := r.mfas[key]
	if !ok {
		s = string(key.module) + ":" + string(key.function) + "/" + strconv.FormatInt(int64(key.arity), 10)
		r.mfas[key] = s
	}
	return s
}

// count reads a number that is never negative.
func count(t etf.Term) uint64 {
	switch n := t.(type) {
	case etf.Int:
		return uint64(max(n, 0))
	case etf.BigInt:
		if n.IsUint64() {
			return n.Uint64()
		}
	}
	return 0
}

// by compares two rows for a ranking, highest first.
func by(q ProcessQuery) func(a, b Process) int {
	value := func(p Process) uint64 {
		switch q.Sort {
		case ByReductions:
			return p.Reductions
		case ByMessageQueueLen:
			return p.MessageQueueLen
		}
		return p.Memory
	}
	return func(a, b Process) int {
		first := cmp.Compare(value(b), value(a))
		if q.Window > 0 {
			first = cmp.Compare(b.Rate, a.Rate)
		}
		return cmp.Or(first, cmp.Compare(a.Node, b.Node), cmp.Compare(a.Pid, b.Pid))
	}
}

// Rank sorts rows as the query asks, highest first, and cuts out its page. It
// is what a reader of unranked rows (a query with Limit 0) does with them.
func Rank(rows []Process, q ProcessQuery) []Process {
	slices.SortFunc(rows, by(q))
	rows = rows[min(q.Offset, len(rows)):]
	if q.Limit > 0 {
		rows = rows[:min(q.Limit, len(rows))]
	}
	return rows
}
