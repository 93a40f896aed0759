package target

import (
	"fmt"
	"strconv"

	"github.com/debughost/debughost/erl/etf"
)

// chunkReader reads the messages of a table, {rows, Worker, [Row]}, from a tape:
// a hundred thousand rows are not made into trees on their way to strings.
type chunkReader struct {
	*rowReader
	tape *etf.Tape
}

func (r *rowReader) chunks() *chunkReader { return &chunkReader{r, etf.NewTape(etf.Limits{})} }

// read returns the rows of one message and whom to acknowledge them to. ok is
// false for a message that is none of the table's.
func (r *chunkReader) read(body []byte) (rows []Process, worker etf.Pid, ok bool, err error) {
	if err := r.tape.DecodeBody(body); err != nil {
		return nil, worker, false, fmt.Errorf("read processes of %s: %w", r.node, err)
	}
	c := r.tape.Cursor()
	e, isTuple := c.EnterTuple()
	if !isTuple || e.Len() != 3 || !e.IsAtom(tableRef) {
		return nil, worker, false, nil
	}
	e.Skip()
	worker, isPid := e.Pid()
	list, isList := e.EnterList()
	if !isPid || !isList {
		return nil, worker, false, fmt.Errorf("read processes of %s: not a part of a table", r.node)
	}
	rows = make([]Process, 0, list.Len())
	for list.Len() > 0 {
		row, ok := list.EnterTuple()
		if !ok {
			return nil, worker, false, fmt.Errorf("read processes of %s: a row that is not a tuple", r.node)
		}
		p, err := r.rowAt(&row)
		if err != nil {
			return nil, worker, false, err
		}
		rows = append(rows, p)
	}
	return rows, worker, true, nil
}

// rowAt reads what row reads, from a cursor in the tuple.
func (r *chunkReader) rowAt(e *etf.Cursor) (Process, error) {
	if e.Len() != 9 {
		return Process{}, fmt.Errorf("read a row of %s: it has %d columns", r.node, e.Len())
	}
	pid, ok := e.Pid()
	if !ok {
		return Process{}, fmt.Errorf("read a row of %s: it has no pid", r.node)
	}
	r.note(pid)
	p := Process{Node: r.node, Pid: pidText(pid)}
	if name, ok := e.Atom(); ok {
		p.RegisteredName = string(name)
	} else {
		e.Skip()
	}
	p.Memory, p.Reductions, p.MessageQueueLen = countAt(e), countAt(e), countAt(e)
	p.CurrentFunction, p.InitialCall = r.mfaAt(e), r.mfaAt(e)
	if status, ok := e.Atom(); ok {
		p.Status = string(status)
	}
	return p, nil
}

func countAt(e *etf.Cursor) uint64 {
	n, ok := e.Int()
	if !ok { // larger than any count
		e.Skip()
	}
	return uint64(max(n, 0))
}

func (r *chunkReader) mfaAt(e *etf.Cursor) string {
	f, ok := e.EnterTuple()
	if !ok {
		e.Skip()
		return ""
	}
	var key mfa
	var okM, okF, okA bool
	var arity int64
	key.module, okM = f.Atom()
	key.function, okF = f.Atom()
	arity, okA = f.Int()
	key.arity = etf.Int(arity)
	if !okM || !okF || !okA {
		return ""
	}
	s, ok := r.mfas[key]
	if !ok {
		s = string(key.module) + ":" + string(key.function) + "/" + strconv.FormatInt(arity, 10)
		r.mfas[key] = s
	}
	return s
}
