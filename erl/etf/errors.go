package etf

import (
	"errors"
	"fmt"
)

// Limits that a term exceeded; returned wrapped, with the place.
var (
	ErrTooDeep  = errors.New("term is nested too deep")
	ErrTooLarge = errors.New("term is too large")
)

// SyntaxError reports bytes that are not a term.
type SyntaxError struct {
	Offset int  // of the tag, in bytes from the start of the (inflated) input
	Tag    byte // of the term that is wrong; 0 where there was none
	Msg    string
}

func (e *SyntaxError) Error() string {
	if e.Tag == 0 {
		return fmt.Sprintf("decode term: %s (byte %d)", e.Msg, e.Offset)
	}
	return fmt.Sprintf("decode term: %s (tag %d at byte %d)", e.Msg, e.Tag, e.Offset)
}

// UnknownTagError reports a tag that this version does not know. The term ends
// at an unknown place, so nothing after it in the same input can be read; the
// next message can.
type UnknownTagError struct {
	Offset int
	Tag    byte
}

func (e *UnknownTagError) Error() string {
	hint := "a newer OTP than 29?"
	if e.Tag == tagLocal {
		hint = "written by term_to_binary with the option local, which only its own node can read"
	}
	return fmt.Sprintf("decode term: unknown tag %d at byte %d (%s)", e.Tag, e.Offset, hint)
}

// ValueError reports a Go value that is no Erlang term.
type ValueError struct {
	Type string // Go type, "Atom"
	Msg  string
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("encode %s: %s", e.Type, e.Msg)
}

const msgShort = "input ends inside the term"

func limitError(err error, at int) error {
	return fmt.Errorf("decode term at byte %d: %w", at, err)
}
