//go:build unix

package sandboxbeam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

func init() { operations["deliver"] = (*Strategy).deliver }

const (
	maxMessages  = 10_000
	maxDelivered = 8 << 20 // bytes of all texts
	maxRefs      = 100_000
	highestPort  = 1<<28 - 1 // that a node of OTP 25 can have
)

// Delivery is the input of deliver: messages as inspect prints them, in the order in
// which a process of the sandbox is to get them.
type Delivery struct {
	Process  string            `json:"process"`
	Messages []string          `json:"messages"`
	Syntax   string            `json:"syntax"` // of the messages: erlang or elixir; empty is what reads most of them, else what the node runs
	Map      map[string]string `json:"map"`    // pids in the messages ("<0.12.0>"), and the processes of the sandbox that are to be there instead
}

// Delivered is the output of deliver.
type Delivered struct {
	Delivered int       `json:"delivered"`
	Skipped   []Skipped `json:"skipped"`
	Replaced  []string  `json:"replaced"` // pids, ports and references of another node, which have become ones that nobody has
}

// Skipped is a message that cannot be read.
type Skipped struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

func (s *Strategy) deliver(ctx context.Context, id string, raw []byte) (any, error) {
	in, err := input[Delivery](raw)
	if err != nil {
		return nil, err
	}
	if in.Process == "" {
		return nil, sdk.Invalid("process", "which one?")
	}
	target, err := processTerm("process", in.Process)
	if err != nil {
		return nil, err
	}
	size := 0
	for i, m := range in.Messages {
		if size += len(m); len(m) > maxTerm || size > maxDelivered || i == maxMessages {
			return nil, sdk.Invalid("messages", fmt.Sprintf("a message may have %d bytes, all of them %d, and there may be %d", maxTerm, maxDelivered, maxMessages))
		}
	}
	f := newForeign()
	mapped := slices.Sorted(maps.Keys(in.Map))
	var pids []etf.Pid
	var targets etf.List
	for _, from := range mapped {
		t, err := etf.Parse(from, etf.Erlang)
		if err != nil {
			t, err = etf.Parse(from, etf.Elixir)
		}
		pid, ok := t.(etf.Pid)
		if err != nil || !ok {
			return nil, sdk.Invalid("map", fmt.Sprintf("%.100q is no pid", from))
		}
		to, err := processTerm("map", in.Map[from])
		if err != nil {
			return nil, err
		}
		pids, targets = append(pids, pid), append(targets, to)
	}
	refs := 0
	for _, m := range in.Messages {
		refs += strings.Count(m, "#Ref")
	}
	if refs > maxRefs {
		return nil, sdk.Invalid("messages", fmt.Sprintf("%d references are more than %d", refs, maxRefs))
	}
	elixir, err := f.ask(ctx, s, id, refs, pids, targets)
	if err != nil {
		return nil, err
	}
	syntax, err := syntaxOf(in, elixir)
	if err != nil {
		return nil, err
	}
	out := Delivered{Skipped: []Skipped{}}
	messages := etf.List{}
	for _, text := range in.Messages {
		t, err := readTerm(text, syntax)
		if err != nil {
			out.Skipped = append(out.Skipped, Skipped{text, err.Error()})
			continue
		}
		messages = append(messages, f.here(t))
	}
	out.Replaced = append([]string{}, slices.Sorted(maps.Keys(f.gone))...)
	answer, err := s.rpc(ctx, id, "debughost_fault", "deliver", target, messages)
	if err != nil {
		return nil, err
	}
	if _, err := toReply(answer); err != nil {
		return nil, err
	}
	out.Delivered = len(messages)
	return out, nil
}

// syntaxOf is what most of the messages are in.
func syntaxOf(in Delivery, elixir bool) (etf.Syntax, error) {
	switch in.Syntax {
	case "erlang":
		return etf.Erlang, nil
	case "elixir":
		return etf.Elixir, nil
	case "":
	default:
		return 0, sdk.Invalid("syntax", fmt.Sprintf("%.50q is neither erlang nor elixir", in.Syntax))
	}
	more := 0 // that are read as Elixir only, less those as Erlang only
	for _, m := range in.Messages {
		_, erlangErr := etf.Parse(m, etf.Erlang)
		_, elixirErr := etf.Parse(m, etf.Elixir)
		switch {
		case erlangErr != nil && elixirErr == nil:
			more++
		case erlangErr == nil && elixirErr != nil:
			more--
		}
	}
	if more > 0 || more == 0 && elixir {
		return etf.Elixir, nil
	}
	return etf.Erlang, nil
}

// foreign puts something of the sandbox's node in the place of each process, port and
// reference of the node that terms were printed of: the same for the same.
type foreign struct {
	pids  map[etf.Pid]etf.Pid
	refs  map[etf.Ref]etf.Ref
	ports map[etf.Port]etf.Port
	dead  etf.Pid         // for those that are not in pids
	fresh []etf.Term      // references that nobody has
	gone  map[string]bool // what has become something that nobody has
}

func newForeign() *foreign {
	return &foreign{pids: map[etf.Pid]etf.Pid{}, refs: map[etf.Ref]etf.Ref{}, ports: map[etf.Port]etf.Port{}, gone: map[string]bool{}}
}

// ask gets from the node who the targets are, which pids are to become, a process that is
// no more, and that many references; and whether Elixir runs there.
func (f *foreign) ask(ctx context.Context, s *Strategy, id string, refs int, pids []etf.Pid, targets etf.List) (elixir bool, err error) {
	answer, err := s.rpc(ctx, id, "debughost_fault", "fresh", etf.Int(refs), targets)
	if err != nil {
		return false, err
	}
	value, err := toReply(answer)
	if err != nil {
		return false, err
	}
	unknown := fmt.Errorf("the node answers %.200s", etf.Format(value, etf.PrintOptions{MaxBytes: 200}))
	here, ok := value.(etf.Tuple)
	if !ok || len(here) != 4 {
		return false, unknown
	}
	f.dead, ok = here[0].(etf.Pid)
	f.fresh, _ = etf.Elements(here[1])
	there, _ := etf.Elements(here[2])
	if !ok || len(f.fresh) != refs || len(there) != len(pids) {
		return false, unknown
	}
	for i, t := range there {
		if f.pids[pids[i]], ok = t.(etf.Pid); !ok {
			return false, unknown
		}
	}
	return here[3] == etf.Term(etf.Atom("true")), nil
}

// here is a term with what is of the sandbox's node.
func (f *foreign) here(t etf.Term) etf.Term {
	switch t := t.(type) {
	case etf.Tuple:
		return etf.Tuple(f.all(t))
	case etf.List:
		return etf.List(f.all(t))
	case etf.ImproperList:
		return etf.ImproperList{Elems: f.all(t.Elems), Tail: f.here(t.Tail)}
	case etf.Map:
		m := make(etf.Map, len(t))
		for i, p := range t {
			m[i] = etf.Pair{Key: f.here(p.Key), Value: f.here(p.Value)}
		}
		return m
	case *etf.Record:
		r := *t
		r.Fields = slices.Clone(t.Fields)
		for i := range r.Fields {
			r.Fields[i].Value = f.here(r.Fields[i].Value)
		}
		return &r
	case etf.Pid:
		if pid, ok := f.pids[t]; ok {
			return pid
		}
		f.note(t)
		return f.dead
	case etf.Ref:
		if _, ok := f.refs[t]; !ok {
			f.refs[t], _ = f.fresh[len(f.refs)].(etf.Ref) // there are as many as the texts have
		}
		f.note(t)
		return f.refs[t]
	case etf.Port:
		if _, ok := f.ports[t]; !ok {
			f.ports[t] = etf.Port{Node: f.dead.Node, Creation: f.dead.Creation, ID: highestPort - uint64(len(f.ports))}
		}
		f.note(t)
		return f.ports[t]
	}
	return t
}

func (f *foreign) all(terms []etf.Term) []etf.Term {
	l := make([]etf.Term, len(terms))
	for i, t := range terms {
		l[i] = f.here(t)
	}
	return l
}

func (f *foreign) note(t etf.Term) { f.gone[etf.Format(t, etf.PrintOptions{})] = true }
