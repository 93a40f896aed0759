package supervisor

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"unique"
)

// record is all that the members agree on about one child. It has three parts,
// each with a total order of its own, and two records merge by taking the
// greater of each part: so the merge is commutative and idempotent, an operator's
// stop on one side of a partition and a new placement on the other both hold
// afterwards, and nobody needs to be asked.
type record struct {
	ID         string
	Intent     intent
	Assignment assignment
	Outcome    *outcome // nil: none
}

// recordJSON is a record on the disk and the wire.
type recordJSON struct {
	ID         string         `json:"id"`
	Intent     intent         `json:"i"`
	Assignment assignmentJSON `json:"m,omitzero"`
	Outcome    *outcome       `json:"o,omitempty"`
}

// What an operator wants of a child.
var (
	wantRunning = wordOf("running")
	wantStopped = wordOf("stopped")
	wantRemoved = wordOf("removed") // the record is a tombstone
)

// intent is the operators' part.
type intent struct {
	Version version `json:"v"`
	Wanted  word    `json:"w"`           // wantRunning, …
	Spec    *body   `json:"s,omitempty"` // nil in a tombstone
	// Over is the intent before, where this one only says what has been done to the
	// child already: a run by that goes on by this, see reload.
	Over *version `json:"o,omitempty"`
}

// assignment is the arbiters' part.
type assignment struct {
	Version version
	Member  string // empty: to be placed
	Why     word
	transit *transit // nil: of no others
}

// transit is what an assignment has that follows upon others.
type transit struct {
	// from are members where the child may run still. Member starts it when each
	// of them has said, of this version, that it does not, or is gone.
	from []string
	// take is a member with a run of the assignment of. Where it is Member itself, that
	// run goes on; else Member begins with that run's state, and take ends it then.
	take string
	of   version
}

func newAssignment(v version, member, why string, from []string, take string, of version) assignment {
	a := assignment{Version: v, Member: member, Why: wordOf(why)}
	if len(from) > 0 || take != "" || of != (version{}) {
		a.transit = &transit{from, take, of}
	}
	return a
}

func (a *assignment) from() []string { return a.came().from }
func (a *assignment) take() string   { return a.came().take }
func (a *assignment) of() version    { return a.came().of }

func (a *assignment) came() transit {
	if a.transit == nil {
		return transit{}
	}
	return *a.transit
}

type assignmentJSON struct {
	Version version  `json:"v"`
	Member  string   `json:"m,omitempty"`
	From    []string `json:"f,omitempty"`
	Take    string   `json:"k,omitempty"`
	Of      version  `json:"o,omitzero"`
	Why     string   `json:"y,omitempty"`
}

// outcome is the part of the member that the child is assigned to: how an
// assignment came to its end. It counts for that assignment only.
type outcome struct {
	For      version `json:"v"`
	State    State   `json:"s,omitempty"` // Exited or Failed
	Reason   string  `json:"r,omitempty"`
	Restarts int     `json:"n,omitempty"`
	At       int64   `json:"t,omitempty"`
}

// merge returns the greater of each part.
func merge(a, b record) record {
	a.ID = b.ID
	if b.Intent.Version.compare(a.Intent.Version) > 0 {
		a.Intent = b.Intent
	}
	if b.Assignment.Version.compare(a.Assignment.Version) > 0 {
		a.Assignment = b.Assignment
	}
	if o, p := a.outcome(), b.outcome(); cmp.Or(p.For.compare(o.For), cmp.Compare(p.At, o.At)) > 0 {
		a.Outcome = b.Outcome
	}
	return a
}

// stamp tells how new each part of a record is.
type stamp struct {
	intent, assignment, outcome version
	at                          int64
}

func (r *record) stamp() stamp {
	o := r.outcome()
	return stamp{r.Intent.Version, r.Assignment.Version, o.For, o.At}
}

// covers tells whether a record with stamp s has nothing to learn from one with
// stamp t.
func (s stamp) covers(t stamp) bool {
	return s.intent.covers(t.intent) && s.assignment.covers(t.assignment) &&
		cmp.Or(s.outcome.compare(t.outcome), cmp.Compare(s.at, t.at)) >= 0
}

// outcome is the last one; the zero value where there is none.
func (r *record) outcome() outcome {
	if r.Outcome == nil {
		return outcome{}
	}
	return *r.Outcome
}

// ended is the outcome of the assignment in force.
func (r *record) ended() (o outcome, ok bool) {
	o = r.outcome()
	return o, o.State != "" && o.For == r.Assignment.Version
}

func (r *record) removed() bool { return r.Intent.Wanted == wantRemoved }

// maxRecord bounds a record that is stored or sent: a registry's value.
const maxRecord = 64 << 10

// spec is the spec of a child that is not removed.
func (r *record) spec() *Spec { return r.Intent.Spec.spec(r.ID) }

func (r *record) encode() []byte {
	a := &r.Assignment
	b, err := marshal(&recordJSON{r.ID, r.Intent, assignmentJSON{a.Version, a.Member, a.from(), a.take(), a.of(), a.Why.String()}, r.Outcome})
	if err != nil {
		panic(err) // Spec.check has seen its one part that could fail, the config
	}
	return b
}

// marshal leaves <, > and & as they are: a config in JSON is shown as it was
// written.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// parseRecord reads what another member, or an earlier life, wrote.
func parseRecord(b []byte) (record, error) {
	if len(b) > maxRecord {
		return record{}, fmt.Errorf("parse record: %d bytes, and at most %d are allowed", len(b), maxRecord)
	}
	var j recordJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return record{}, fmt.Errorf("parse record: %w", err)
	}
	m := &j.Assignment
	r := record{ID: j.ID, Intent: j.Intent, Assignment: newAssignment(m.Version, intern(m.Member), m.Why, m.From, intern(m.Take), m.Of), Outcome: j.Outcome}
	if r.Intent.Spec != nil {
		r.Intent.Spec = r.Intent.Spec.shared()
	}
	if r.outcome() == (outcome{}) {
		r.Outcome = nil
	}
	if err := r.check(); err != nil {
		return record{}, fmt.Errorf("parse record of %.200q: %w", r.ID, err)
	}
	return r, nil
}

// intern returns the one copy of a short word.
func intern(s string) string {
	if len(s) > maxID {
		return s
	}
	return unique.Make(s).Value()
}

func (r *record) check() error {
	switch {
	case !validID(r.ID):
		return fmt.Errorf("that is no child's id")
	case r.Intent.Version.Epoch == 0:
		return fmt.Errorf("nobody wants it")
	case !slices.Contains([]word{wantRunning, wantStopped, wantRemoved}, r.Intent.Wanted):
		return fmt.Errorf("%.50q is nothing that can be wanted", r.Intent.Wanted)
	case !r.removed() && r.Intent.Spec == nil:
		return fmt.Errorf("it has no spec")
	case !slices.Contains([]State{"", Exited, Failed}, r.outcome().State):
		return fmt.Errorf("%.50q is no outcome", r.outcome().State)
	case r.removed():
		return nil
	}
	return r.spec().check()
}

// fact is what one member says about a child and itself, for as long as it
// lives.
type fact struct {
	Seen     version `json:"v,omitzero"`  // the assignment that it knew when it said so
	Running  bool    `json:"r,omitempty"` // something of the child is there, or may be
	Began    bool    `json:"x,omitempty"` // what an assignment says that takes the state of a run along
	State    word    `json:"s,omitzero"`  // a State
	Reason   word    `json:"y,omitzero"`
	Since    int64   `json:"t,omitempty"` // of State, Unix nanoseconds
	Started  int64   `json:"b,omitempty"`
	Restarts int     `json:"n,omitempty"`
	OSPid    int     `json:"p,omitempty"`
	Node     word    `json:"d,omitzero"`
	Last     *line   `json:"l,omitempty"` // of its history
	Balk     word    `json:"k,omitzero"`  // why what an assignment says cannot begin that takes the state of a run along
	Reload   *reload `json:"u,omitempty"` // what it has been reloaded with, and what its spec does not say
}

func (f *fact) state() State { return State(f.State.String()) }

func (f *fact) equal(g *fact) bool {
	if f == nil || g == nil {
		return f == g
	}
	a, b := *f, *g
	same := a.Last == b.Last || a.Last != nil && b.Last != nil && a.Last.same(b.Last)
	same = same && (a.Reload == b.Reload || a.Reload != nil && b.Reload != nil && *a.Reload == *b.Reload)
	a.Last, b.Last, a.Reload, b.Reload = nil, nil, nil, nil
	return same && a == b
}

func parseFact(b []byte) (*fact, error) {
	var f fact
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("parse a child's state: %w", err)
	}
	return &f, nil
}
