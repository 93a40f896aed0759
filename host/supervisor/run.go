package supervisor

import (
	"slices"
	"time"

	"github.com/debughost/debughost/sdk"
)

// run is what this member has of a child: a sandbox, or what is left of one. Its
// JSON is kept on disk, so that a later life can take it over.
type run struct {
	For      version           `json:"v"` // the assignment that it follows
	Spec     version           `json:"i"` // the intent that it was started by
	Strategy word              `json:"s"`
	Handle   sdk.SandboxHandle `json:"h,omitzero"`
	Started  int64             `json:"b,omitempty"` // Unix nanoseconds
	Since    int64             `json:"t,omitempty"` // of the state
	Restarts int               `json:"n,omitempty"`
	OSPid    int               `json:"o,omitempty"`
	Node     word              `json:"d,omitzero"`
	Reload   *reload           `json:"u,omitempty"` // what it has been reloaded with, until its spec says so
	Phase    phase             `json:"p"`
	Began    bool              `json:"x,omitempty"` // it has the state that its assignment takes, if that was to be had
	Unsure   bool              `json:"w,omitempty"` // a reload was begun, and how that went is not known

	op   uint64 // what it waits for; 0: nothing
	life uint64 // tells it from others of the same assignment
	odd  *hitch // nil: none
}

// hitch is what a run has that did not just come up.
type hitch struct {
	take      string          // the member from whose run it is to have its state; empty: none
	reloading uint64          // the reload that is under way; 0: none
	dropped   bool            // the start is of no use any more, and its strategy was told
	left      bool            // something of the run before it may be there
	tries     int             // that the strategy has failed at
	recent    []time.Duration // restarts that count for the intensity
	again     time.Duration   // when it is to be started again, or what failed to be tried again
	why       string          // it is not running
	said      string          // by the strategy, of the last start that failed: its log until it runs
	saidAt    time.Time
}

// hitch is that of a run; the zero value: none.
func (r *run) hitch() hitch {
	if r.odd == nil {
		return hitch{}
	}
	return *r.odd
}

// hitched is that of a run, which may be changed.
func (r *run) hitched() *hitch {
	if r.odd == nil {
		r.odd = &hitch{}
	}
	return r.odd
}

// phase is where a run is. The zero value is one that this program does not know.
type phase uint8

const (
	creating phase = iota + 1
	recovering
	up
	stopping
	blank // its strategy could not be asked: nothing of it is there
	over  // it has ended; its log is there still
	destroying
)

var phaseNames = [...]string{"", "creating", "recovering", "up", "stopping", "blank", "over", "destroying"}

func (p phase) String() string { return phaseNames[p] }

// MarshalText writes a phase.
func (p phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads one.
func (p *phase) UnmarshalText(b []byte) error {
	*p = phase(max(0, slices.Index(phaseNames[:], string(b))))
	return nil
}

// active tells whether something of it may be running.
func (r *run) active() bool {
	return r != nil && r.Phase != blank && r.Phase != over && r.Phase != destroying
}

func (r *run) copy() *run {
	cp := *r
	if r.odd != nil {
		h := *r.odd
		cp.odd = &h
	}
	return &cp
}
