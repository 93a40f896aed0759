package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
)

// peerError is the function's, with what is known of a member that is lost.
func (f *forwarder) peerError(ctx context.Context, member string, sent bool, err error) error {
	err = peerError(ctx, member, sent, err)
	var lost *lostError
	if errors.As(err, &lost) {
		for _, m := range f.peers.Members() {
			if m.Name == member && !m.State.Usable() {
				lost.err = stateError(m)
			}
		}
	}
	return err
}

// stateError says why a member is not asked.
func stateError(m cluster.Member) error {
	return fmt.Errorf("it is %s since %s", m.State, m.Since.UTC().Format("2006-01-02 15:04:05Z"))
}

// peerError makes sense of a failed call of another member. sent says whether
// the request may have left.
func peerError(ctx context.Context, member string, sent bool, err error) error {
	e, ok := fromStatus(err).(*Error)
	if !ok {
		return &lostError{member: member, sent: sent, err: err}
	}
	code, answered := status.Code(err), hasDetail(err)
	switch {
	case answered && (e.Code == Canceled || e.Code == Stopping) && ctx.Err() == nil:
		return &lostError{member: member, sent: sent, err: err} // it stops, and gave the call up
	case answered:
		return e
	case code == codes.DeadlineExceeded:
		return &Error{
			Code: Timeout, Cause: fmt.Sprintf("member %s did not answer in time", member),
			Hint: "`debughost members` tells how it does; --timeout waits longer",
		}
	case ctx.Err() != nil:
		return &Error{Code: Canceled, Cause: "given up"}
	case code == codes.Unavailable || code == codes.Canceled:
		return &lostError{member: member, sent: sent, err: err}
	case code == codes.Unimplemented:
		return &Error{
			Code: Failed, Cause: fmt.Sprintf("member %s does not know this call", member),
			Hint: "it is another version: compare them with `debughost members`",
		}
	}
	return &Error{Code: e.Code, Cause: fmt.Sprintf("member %s: %s", member, status.Convert(err).Message())}
}

func hasDetail(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if _, ok := d.(*controlpb.ErrorDetail); ok {
			return true
		}
	}
	return false
}

// lostError is a member that could not be reached, or not to the end.
type lostError struct {
	member string
	sent   bool // the request may have arrived
	err    error
}

func (e *lostError) Error() string {
	return fmt.Sprintf("member %s could not be reached: %s", e.member, clean(status.Convert(e.err).Message()))
}

func (e *lostError) Unwrap() error { return e.err }

// Facts implements Facts.
func (e *lostError) Facts() (code, node, hint string) {
	return string(Unreachable), "", "`debughost members` tells how it does"
}

// unknown is the error of a call that may have been done.
func (e *lostError) unknown(tried, node string) *Error {
	return &Error{
		Code: Unreachable, Tried: tried, Node: node,
		Cause: fmt.Sprintf("%s: member %s was lost before it answered: it is unknown whether this was done", tried, e.member),
		Hint:  "look before you do it again",
	}
}
