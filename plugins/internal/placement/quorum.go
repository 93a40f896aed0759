package placement

import "github.com/debughost/debughost/sdk"

// Quorum counts who is there.
type Quorum struct {
	Known   int // all but those that left
	Alive   int
	Suspect int // of whom it is not known yet
}

// CountQuorum counts the members. There are at least so many as are expected,
// also when not all have been heard of.
func CountQuorum(members []sdk.Member, expected int) Quorum {
	var q Quorum
	for _, m := range members {
		switch m.State {
		case sdk.MemberLeft:
			continue
		case sdk.MemberAlive:
			q.Alive++
		case sdk.MemberSuspect:
			q.Suspect++
		}
		q.Known++
	}
	q.Known = max(q.Known, expected)
	return q
}

// Needed is how many make a majority. Half of them do not: the other half would
// be one, too.
func (q Quorum) Needed() int { return q.Known/2 + 1 }

// Has tells whether a majority is alive.
func (q Quorum) Has() bool { return q.Alive >= q.Needed() }

// Lost tells whether there is no majority even if all suspects are alive.
func (q Quorum) Lost() bool { return q.Alive+q.Suspect < q.Needed() }
