package supervisor

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknown says that there is no such child.
	ErrUnknown = errors.New("no such child")
	// ErrExists says that the id is in use; errors.As with *ExistsError tells by whom.
	ErrExists = errors.New("the child exists already")
	// ErrInvalid says that a spec cannot be; errors.As with *SpecError tells why.
	ErrInvalid = errors.New("invalid spec")
	// ErrMember says that a member cannot take a child; errors.As with *MemberError
	// tells why.
	ErrMember = errors.New("the member cannot take it")
	// ErrState says that a child is in no state for what is wanted; errors.As with
	// *StateError tells in which.
	ErrState = errors.New("it is in no state for that")
	// ErrElsewhere says that it is for another member, which runs the child.
	ErrElsewhere = errors.New("another member runs it")
	// ErrUnconfirmed says that a change was made, and that it is not certain to
	// survive: errors.As with *UnconfirmedError tells what is missing.
	ErrUnconfirmed = errors.New("not confirmed")
	// ErrNoMember says that there is no such member.
	ErrNoMember = errors.New("no such member")
	// ErrNoRun says that this member has nothing of the child.
	ErrNoRun = errors.New("it does not run on this member")
	// ErrJoining says that this member does not know yet what the others know.
	ErrJoining = errors.New("this member is joining its cluster")
)

// ExistsError is an ErrExists.
type ExistsError struct {
	ID     string
	Member string // that it is assigned to; empty while it is pending
	State  State
}

func (e *ExistsError) Error() string {
	if e.Member == "" {
		return fmt.Sprintf("start child %s: it exists already and is %s", e.ID, e.State)
	}
	return fmt.Sprintf("start child %s: it exists already and is %s on member %s", e.ID, e.State, e.Member)
}

// Is makes it an ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// Hint says what to do.
func (e *ExistsError) Hint() string {
	return "start it again with `debughost child restart " + e.ID + "`, or remove it first"
}

// SpecError is an ErrInvalid.
type SpecError struct{ ID, Problem string }

func (e *SpecError) Error() string { return fmt.Sprintf("child %.200q: %s", e.ID, e.Problem) }

// Is makes it an ErrInvalid.
func (e *SpecError) Is(target error) bool { return target == ErrInvalid }

// ErrAway is a blob that a member may have that cannot be asked now.
var ErrAway = errors.New("a member is away that may have it")

// MemberError is an ErrMember.
type MemberError struct {
	ID, Member string
	Problem    string // "it is not alive"
}

func (e *MemberError) Error() string {
	return fmt.Sprintf("move child %s to member %.200s: %s", e.ID, e.Member, e.Problem)
}

// Is makes it an ErrMember.
func (e *MemberError) Is(target error) bool { return target == ErrMember }

// StateError is an ErrState, and an ErrElsewhere where another member runs the child.
type StateError struct {
	Verb, ID  string
	Problem   string // "it is stopped"
	Elsewhere bool
}

func (e *StateError) Error() string {
	return fmt.Sprintf("%s child %.200s: %s", e.Verb, e.ID, e.Problem)
}

// Is makes it what it is.
func (e *StateError) Is(target error) bool {
	return target == ErrState || target == ErrElsewhere && e.Elsewhere
}

// UnconfirmedError is an ErrUnconfirmed. The change is in force as far as
// anybody knows of it.
type UnconfirmedError struct {
	ID    string
	Disk  bool  // it is on this member's disk
	Cause error // may be nil
}

func (e *UnconfirmedError) Error() string {
	what := "no other member has confirmed that it has it"
	if !e.Disk {
		what = "it is not on this member's disk"
	}
	s := fmt.Sprintf("change child %s: it was done, but %s", e.ID, what)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is makes it an ErrUnconfirmed.
func (e *UnconfirmedError) Is(target error) bool { return target == ErrUnconfirmed }

func (e *UnconfirmedError) Unwrap() error { return e.Cause }

// Hint says what to do.
func (e *UnconfirmedError) Hint() string {
	return "look at it with `debughost child show " + e.ID + "`; it may be lost if this member is lost before the others know"
}
