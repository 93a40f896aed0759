package node

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/debughost/debughost/erl/etf"
)

// Class is how a called function ended that did not return.
type Class string

// The classes of Erlang's exceptions, and Signal, which is not one: the
// process that ran the function was ended by an exit signal.
const (
	ClassError  Class = "error"
	ClassExit   Class = "exit"
	ClassThrow  Class = "throw"
	ClassSignal Class = "signal"
)

// CallError says that a called function raised an exception, or that its
// process was killed.
type CallError struct {
	Node             string
	Module, Function string // that were called
	Arity            int
	Class            Class
	Reason           etf.Term
	// Stack is a list of {Module, Function, Arity or arguments, Location}, with
	// ClassError only. Arguments may be anything, and large.
	Stack etf.Term
}

// Error tells the call, the reason, and where it was raised.
func (e *CallError) Error() string {
	call := fmt.Sprintf("call %s on %s: ", mfa(e.Module, e.Function, e.Arity), e.Node)
	if e.Class == ClassError && e.Reason == etf.Atom("undef") {
		if at := e.raisedAt(); at != "" {
			return call + "undefined function " + at
		}
	}
	reason := etf.Format(e.Reason, etf.PrintOptions{MaxDepth: 8, MaxBytes: 512})
	if e.Class == ClassSignal {
		return call + "its process was ended by an exit signal: " + reason
	}
	s := call + string(e.Class) + ": " + reason
	if at := e.raisedAt(); at != "" {
		s += " in " + at
	}
	return s
}

// Undefined reports whether the called function itself does not exist on the
// node, in contrast to one that it calls in turn.
func (e *CallError) Undefined() bool {
	return e.Class == ClassError && e.Reason == etf.Atom("undef") && e.raisedAt() == mfa(e.Module, e.Function, e.Arity)
}

// raisedAt is the topmost stack frame as module:function/arity; empty without
// one.
func (e *CallError) raisedAt() string {
	frames, ok := etf.Elements(e.Stack)
	if !ok || len(frames) == 0 {
		return ""
	}
	f, ok := frames[0].(etf.Tuple)
	if !ok || len(f) < 3 {
		return ""
	}
	module, ok1 := f[0].(etf.Atom)
	function, ok2 := f[1].(etf.Atom)
	if !ok1 || !ok2 {
		return ""
	}
	if arity, ok := f[2].(etf.Int); ok {
		return mfa(string(module), string(function), int(arity))
	}
	args, _ := etf.Elements(f[2])
	return mfa(string(module), string(function), len(args))
}

// parseResult reads the exit reason of a call's process, as
// erpc:execute_call/4 makes it (the same in OTP 25 to 29):
//
//	{Ref, return, Result}
//	{Ref, throw, Value}
//	{Ref, exit, Reason}
//	{Ref, error, Reason, Stack} or {Ref, error, {erpc, Reason}}
//
// and anything else where an exit signal ended the process. The result is
// returned encoded and points into raw.
func parseResult(raw []byte, ref etf.Ref, decode func([]byte) (etf.Term, error)) (result []byte, exc *CallError, err error) {
	var buf [320]byte
	prefix := etf.AppendTupleHeader(buf[:0], 3)
	prefix, err = etf.AppendRef(prefix, ref)
	if err != nil {
		return nil, nil, err
	}
	prefix, err = etf.AppendAtom(prefix, "return")
	if err != nil {
		return nil, nil, err
	}
	if rest, ok := bytes.CutPrefix(raw, prefix); ok {
		return rest, nil, nil
	}
	t, err := decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("decode outcome: %w", err)
	}
	exc = exception(t, ref)
	if exc.Class == "return" { // in an encoding that is not ours
		result, err = etf.Append(nil, exc.Reason)
		return result, nil, err
	}
	return nil, exc, nil
}

// exception reads the tuple that parseResult describes.
func exception(t etf.Term, ref etf.Ref) *CallError {
	tuple, ok := t.(etf.Tuple)
	if !ok || len(tuple) < 3 || len(tuple) > 4 || tuple[0] != ref {
		return &CallError{Class: ClassSignal, Reason: t}
	}
	tag, _ := tuple[1].(etf.Atom)
	e := &CallError{Class: Class(strings.Clone(string(tag))), Reason: tuple[2]}
	if len(tuple) == 4 {
		e.Stack = tuple[3]
	}
	return e
}
