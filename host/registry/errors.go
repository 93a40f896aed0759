package registry

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound says that this member has no such entry.
	ErrNotFound = errors.New("no such entry")
	// ErrNoQuorum says that a majority of the members did not agree in time;
	// errors.As with *NoQuorumError tells how many did.
	ErrNoQuorum = errors.New("no quorum")
	// ErrInvalid says that a claim breaks a limit or is incomplete.
	ErrInvalid = errors.New("invalid claim")
)

// TakenError says that somebody else has the key.
type TakenError struct {
	Holder Entry // as this member, or the member that refused, knows it
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("register %q: taken by %s at member %s since %s",
		e.Holder.Key, e.Holder.Owner, e.Holder.Origin, e.Holder.Since.UTC().Format("2006-01-02 15:04:05.000Z"))
}

// NoQuorumError is an ErrNoQuorum with its figures.
type NoQuorumError struct {
	Key      string
	Accepted int // members that gave the key to this claim, this member included
	Answered int // members that answered at all, this member included
	Visible  int // members in sight, this member included
	Size     int // members of the cluster
	Cause    error
}

func (e *NoQuorumError) Error() string {
	s := fmt.Sprintf("register %q: no quorum: %d of %d members agreed (%d needed, %d answered, %d in sight)",
		e.Key, e.Accepted, e.Size, e.Size/2+1, e.Answered, e.Visible)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is makes it an ErrNoQuorum.
func (e *NoQuorumError) Is(target error) bool { return target == ErrNoQuorum }

func (e *NoQuorumError) Unwrap() error { return e.Cause }

// NotOriginError says that an entry belongs to another member, and that only
// that one may change it.
type NotOriginError struct {
	Key    string
	Origin string
}

func (e *NotOriginError) Error() string {
	return fmt.Sprintf("change %q: it belongs to member %s", e.Key, e.Origin)
}
