package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// processJSON is a process in JSON; its keys are a contract.
type processJSON struct {
	Node            string   `json:"node"`
	Pid             string   `json:"pid"`
	RegisteredName  string   `json:"registered_name"`
	Memory          uint64   `json:"memory"`
	Reductions      uint64   `json:"reductions"`
	MessageQueueLen uint64   `json:"message_queue_len"`
	CurrentFunction string   `json:"current_function"`
	InitialCall     string   `json:"initial_call"`
	Status          string   `json:"status"`
	Rate            *float64 `json:"rate,omitempty"` // with --window
}

// nodeErrorJSON is the error of a target in JSON; its keys are a contract.
type nodeErrorJSON struct {
	Node  string `json:"node"`
	Error string `json:"error"`
	hint  string
}

// text says what failed on which node.
func (e nodeErrorJSON) text() string {
	if strings.Contains(e.Error, e.Node) {
		return e.Error
	}
	return "ask " + e.Node + ": " + e.Error
}

// ranking is the whole answer to ps.
type ranking struct {
	rows     []processJSON
	errors   []nodeErrorJSON
	answered uint32 // targets
}

// collect reads the answer to its end.
func (a *app) collect(ctx context.Context, c *control.Client, req *controlpb.ListProcessesRequest) (*ranking, error) {
	stream, err := c.Processes.ListProcesses(ctx, req)
	if err != nil {
		return nil, err
	}
	r := &ranking{}
	p := a.newProgress()
	defer p.clear()
	same := interner{}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, &control.Error{
				Code: control.Failed, Cause: "list processes: the answer was cut short",
				Hint: "is debughost still running? see `debughost status`",
			}
		}
		if err != nil {
			return nil, err
		}
		switch part := res.GetPart().(type) {
		case *controlpb.ListProcessesResponse_Rows:
			for _, row := range part.Rows.GetProcesses() {
				r.rows = append(r.rows, same.row(row, req.GetWindow() != nil))
			}
			p.show(len(r.rows))
		case *controlpb.ListProcessesResponse_Error:
			r.errors = append(r.errors, nodeErrorJSON{part.Error.GetNode(), part.Error.GetError(), part.Error.GetHint()})
		case *controlpb.ListProcessesResponse_End:
			r.answered = part.End.GetAnswered()
			slices.SortStableFunc(r.errors, func(x, y nodeErrorJSON) int { return strings.Compare(x.Node, y.Node) })
			return r, nil
		}
	}
}

// sort ranks rows that came unranked: highest first, then by node and pid so
// that equal answers print equally.
func (r *ranking) sort(by string) {
	key := func(p *processJSON) uint64 { return p.Memory }
	switch by {
	case "reductions":
		key = func(p *processJSON) uint64 { return p.Reductions }
	case "message_queue_len":
		key = func(p *processJSON) uint64 { return p.MessageQueueLen }
	}
	slices.SortFunc(r.rows, func(x, y processJSON) int {
		byRate := 0
		if x.Rate != nil && y.Rate != nil {
			byRate = cmp.Compare(*y.Rate, *x.Rate)
		}
		return cmp.Or(byRate, cmp.Compare(key(&y), key(&x)),
			strings.Compare(x.Node, y.Node), comparePids(x.Pid, y.Pid))
	})
}

// comparePids orders <0.9.0> before <0.10.0>.
func comparePids(x, y string) int {
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
}

// interner keeps one copy of each of the few names that most of a million
// rows share.
type interner map[string]string

func (in interner) one(s string) string {
	if have, ok := in[s]; ok {
		return have
	}
	if len(in) < 1<<16 {
		in[s] = s
	}
	return s
}

func (in interner) row(p *controlpb.Process, rate bool) processJSON {
	row := processJSON{
		Node:            in.one(p.GetNode()),
		Pid:             p.GetPid(),
		RegisteredName:  p.GetRegisteredName(),
		Memory:          p.GetMemory(),
		Reductions:      p.GetReductions(),
		MessageQueueLen: p.GetMessageQueueLen(),
		CurrentFunction: in.one(p.GetCurrentFunction()),
		InitialCall:     in.one(p.GetInitialCall()),
		Status:          in.one(p.GetStatus()),
	}
	if rate {
		v := p.GetRate()
		row.Rate = &v
	}
	return row
}

// progress tells a person at a terminal that rows are coming.
type progress struct {
	w     io.Writer // nil: nobody is there
	now   func() time.Time
	last  time.Time
	shown bool
}

func (a *app) newProgress() *progress {
	p := &progress{now: a.now, last: a.now()}
	if a.errTTY {
		p.w = a.err
	}
	return p
}

// show writes over the line at most five times a second, and not at all for
// what is there at once.
func (p *progress) show(rows int) {
	if p.w == nil || p.now().Sub(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = p.now(), true
	fmt.Fprintf(p.w, "\r%d processes so far…", rows)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
