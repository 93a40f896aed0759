package target

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/erl/etf"
)

// What a target says it has sent and left out is what a follower's count is made
// of, whatever arrives, and whatever the target says.
func TestLogMessages(t *testing.T) {
	none := etf.Atom("none")
	event := etf.Tuple{etf.Atom("log"), etf.Int(1), etf.Atom("info"), none, none, none, none, none, etf.Binary("text"), none, etf.List{}}
	logs := func(sent, left int64, events ...etf.Term) etf.Term {
		return etf.Tuple{etf.Atom("logs"), etf.Int(sent), etf.Int(left), etf.List(events)}
	}
	r := &logReader{rows: &rowReader{}}
	for _, c := range []struct {
		name   string
		term   etf.Term
		events int
		lost   uint64
		ok     bool
	}{
		{"first", logs(1, 0, event), 1, 0, true},
		{"several", logs(4, 0, event, event, event), 3, 0, true},
		{"left out", logs(4, 7), 0, 7, true},
		{"after one of two that is missing", logs(7, 8, event), 1, 3, true},
		{"nothing new", logs(7, 8), 0, 0, true},
		{"not a message", nil, 0, 0, false},
		{"another", etf.Tuple{etf.Atom("logs"), etf.Int(9), etf.Int(9)}, 0, 0, false},
		{"no list", etf.Tuple{etf.Atom("logs"), etf.Int(9), etf.Int(9), none}, 0, 0, false},
		{"the sums after these", logs(9, 8), 0, 2, true},
		{"not an event", logs(11, 8, event, etf.Tuple{etf.Atom("log")}), 1, 1, true},
		{"more than it says", logs(12, 8, event, event, event), 3, 0, true},
		{"backwards", logs(0, -1), 0, 0, true},
		{"too many", logs(math.MaxInt64, math.MaxInt64), 0, 2 * math.MaxInt64, true},
		{"no numbers", etf.Tuple{etf.Atom("logs"), none, none, etf.List{}}, 0, 0, true},
	} {
		events, lost, ok := r.message(c.term)
		assert.Len(t, events, c.events, c.name)
		assert.Equal(t, c.lost, lost, c.name)
		assert.Equal(t, c.ok, ok, c.name)
	}
}
