package supervisor

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/debughost/debughost/sdk"
)

// maxHistory bounds a child's history.
const maxHistory = 20

// line is an entry of a child's history, as it is kept. But for its end, where what is
// too old is cut off, nobody changes a history.
type line struct {
	before *line // nil: it is the oldest
	at     int64 // Unix nanoseconds
	epoch  uint64
	member word
	what   word
	more   *lineMore // nil: nothing
}

// lineMore is what few lines have.
type lineMore struct {
	reason string
	exit   *sdk.SandboxExit
}

func lineOf(e Entry) *line {
	l := &line{at: e.Time.UnixNano(), epoch: e.Epoch, member: wordOf(e.Member), what: wordOf(e.What)}
	if e.Reason != "" || e.Exit != nil {
		l.more = &lineMore{e.Reason, e.Exit}
	}
	return l
}

func (l *line) entry() Entry {
	e := Entry{Time: time.Unix(0, l.at), Epoch: l.epoch, Member: l.member.String(), What: l.what.String()}
	if l.more != nil {
		e.Reason, e.Exit = l.more.reason, l.more.exit
	}
	return e
}

// same tells whether two lines are about the same.
func (l *line) same(m *line) bool { return l.at == m.at && l.member == m.member && l.what == m.what }

// MarshalJSON writes it as an Entry.
func (l *line) MarshalJSON() ([]byte, error) { return json.Marshal(l.entry()) }

// UnmarshalJSON reads an Entry.
func (l *line) UnmarshalJSON(b []byte) error {
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return err
	}
	*l = *lineOf(e)
	return nil
}

// remember puts a line, which is nobody else's, at the end of the history.
func (ch *child) remember(l *line) {
	l.before = ch.history
	ch.history = l
	for n := 1; l != nil; n, l = n+1, l.before {
		if n == maxHistory {
			l.before = nil
		}
	}
}

// recalls is the line of the history that is about the same as another; nil: none.
func (ch *child) recalls(l *line) *line {
	for h := ch.history; h != nil; h = h.before {
		if h.same(l) {
			return h
		}
	}
	return nil
}

// entries is the history, oldest first.
func (ch *child) entries() []Entry {
	var out []Entry
	for l := ch.history; l != nil; l = l.before {
		out = append(out, l.entry())
	}
	slices.Reverse(out)
	return out
}
