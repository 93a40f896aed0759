package control

import (
	"context"
	"fmt"
	"io"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// Supervisor keeps children running. What reads does not block but for the
// methods that say so, and returns what the caller may keep.
type Supervisor interface {
	// These are done by the child's arbiter, and return once what they did is sure
	// to survive it, or with an error that says that it is not.
	StartChild(context.Context, supervisor.Spec) (supervisor.Child, error)
	StopChild(ctx context.Context, id string) (supervisor.Child, error)
	RestartChild(ctx context.Context, id string) (supervisor.Child, error)
	// MoveChild to no member lets placement choose one, which is not the present.
	MoveChild(ctx context.Context, id, member string) (supervisor.Child, error)
	RemoveChild(ctx context.Context, id string) error

	// Children come without their history, in any order.
	Children(context.Context, supervisor.Filter) ([]supervisor.Child, error)
	// ChildByID is complete on the member that runs the child, and may ask what runs
	// it.
	ChildByID(ctx context.Context, id string) (supervisor.Child, error)
	// ChildLogs reads what a child of this member prints. Following, it returns when
	// ctx ends or the child is not this member's any more.
	ChildLogs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error
	// These are done by the member that runs the child. ReloadChild returns once that is
	// the child's spec and sure to stay; what comes out of it and of OperateChild is JSON,
	// and what goes into that.
	ReloadChild(ctx context.Context, id, bundle, note string) (report []byte, c supervisor.Child, err error)
	OperateChild(ctx context.Context, id, operation string, input []byte) (output []byte, err error)
	SnapshotChild(ctx context.Context, id string, w io.Writer) error
	// PutBlob keeps what r has on this member; with an id that is wanted, another content
	// is an error. OpenBlob may fetch it from another member.
	PutBlob(r io.Reader, want string) (id string, size int64, err error)
	OpenBlob(ctx context.Context, id string) (io.ReadCloser, error)

	CountChildren() supervisor.Count
	// ChildRestarts is how often this member started a child again that had ended.
	ChildRestarts() uint64
	// ChildrenChanged returns a channel that is closed when next anything that
	// Children tells changes.
	ChildrenChanged() <-chan struct{}

	// ChildArbiter is the member that decides about a child; "" is this one.
	ChildArbiter(id string) (member string)
	// ChildRunner is the member that a child is assigned to; "" where it is none.
	ChildRunner(id string) (member string, err error)

	// DrainMember begins or ends a drain, which all members hear of.
	DrainMember(ctx context.Context, member string, undo bool) error
	// DrainingMembers are those that take no children, by name.
	DrainingMembers() []string
	// Explain asks a placement strategy, and places nothing.
	Explain(context.Context, supervisor.Spec) (supervisor.Explanation, error)
}

// ChildStates are the states of a child in the order of its life.
func ChildStates() []string {
	var out []string
	for _, s := range childStates {
		out = append(out, string(s))
	}
	return out
}

var childStates = []supervisor.State{
	supervisor.Pending, supervisor.Starting, supervisor.Running, supervisor.Backoff, supervisor.Moving,
	supervisor.Stopping, supervisor.Stopped, supervisor.Exited, supervisor.Failed,
}

// Bounds of what may be asked of children.
const (
	maxChildID = 128 // bytes
	// childChunk is how many children or lines go into one message.
	childChunk = 500
	// chunkBytes is how large a message with lines may become.
	chunkBytes = 256 << 10
)

// childService serves the children.
type childService struct {
	controlpb.UnimplementedChildrenServer
	engine  Supervisor // nil: there is none
	cluster ClusterEngine
	forward *forwarder
	self    func() string
	drain   context.Context
}

func (s *childService) there(tried string) error {
	if s.engine == nil {
		return &Error{Code: Failed, Tried: tried, Cause: tried + ": this debughost runs no children"}
	}
	return nil
}

// child checks what all calls about one child have in common.
func (s *childService) child(tried, id string) error {
	if err := s.there(tried); err != nil {
		return err
	}
	return checkChildID(tried, id)
}

// checkChildID is strict, since ids become names of files and keys.
func checkChildID(tried, id string) error {
	ok := len(id) > 0 && len(id) <= maxChildID
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && (c == '.' || c == '_' || c == '-'))
	}
	if !ok {
		tried = fmt.Sprintf("%.200s", tried) // which has the id in it
		return badRequest(tried, "%.80q is no child's id: 1 to %d letters, digits and ._-, beginning with a letter or a digit", clean(id), maxChildID)
	}
	return nil
}

// childError adds to an error of the supervisor what helps.
func childError(tried string, err error) error {
	if err == nil {
		return nil
	}
	e := *describe(tried, err)
	if e.Tried == "" {
		e.Tried, e.Cause = tried, tried+": "+e.Cause
	}
	if e.Hint == "" {
		e.Hint = childHints[e.Code]
	}
	return &e
}

var childHints = map[Code]string{
	UnknownChild:  "`debughost child list` tells what there is",
	UnknownMember: "`debughost members` lists them",
	Joining:       "ask again in a few seconds",
	NoQuorum:      "`debughost members` tells who is missing",
	NoBlob:        "upload it; what no child's spec names is kept for an hour",
	NoCandidate:   "`debughost placement explain` tells what keeps each member from it",
}

func unknownMember(tried string) error {
	return &Error{Code: UnknownMember, Tried: tried, Cause: fmt.Sprintf("%s: there is no such member", tried), Hint: "`debughost members` lists them"}
}

// childrenOfMembers tells how many children are assigned to each member, and which
// members are being drained.
func childrenOfMembers(engine Supervisor) (children map[string]uint32, draining []string) {
	children = map[string]uint32{}
	if engine == nil {
		return children, nil
	}
	for member, n := range engine.CountChildren().ByMember {
		children[member] = uint32(n)
	}
	return children, engine.DrainingMembers()
}
