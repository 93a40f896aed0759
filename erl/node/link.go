package node

import "github.com/debughost/debughost/erl/etf"

// linkKey is a pair of processes that are, or were, linked.
type linkKey struct {
	local  uint64 // number of the mailbox's pid
	remote etf.Pid
}

// links is what we know of the links over one connection: the state machine of
// the link protocol ("Link Protocol" in the distribution protocol's
// description), without I/O. The value of an entry is its unlink id: 0 says
// that the link is active, anything else that our UNLINK_ID with that id is
// not acknowledged yet, and the link does not count.
//
// Invariant: each change that says "send" is followed by that signal before
// the next change for the same pair.
type links struct {
	entries map[linkKey]uint64
	lastID  uint64
}

func newLinks() links { return links{entries: map[linkKey]uint64{}} }

// link is for a LINK that we want to send: it says whether to send it.
func (l *links) link(k linkKey) (send bool) {
	id, ok := l.entries[k]
	if ok && id == 0 {
		return false
	}
	l.entries[k] = 0
	return true
}

// linked is for a LINK that was received. It changes nothing where an entry
// exists: if that is waiting for an acknowledgement, the peer has yet to see
// our UNLINK_ID, and ends this link by it.
func (l *links) linked(k linkKey) {
	if _, ok := l.entries[k]; !ok {
		l.entries[k] = 0
	}
}

// unlink is for an UNLINK_ID that we want to send: its id, and whether to send
// it.
func (l *links) unlink(k linkKey) (id uint64, send bool) {
	if id, ok := l.entries[k]; !ok || id != 0 {
		return 0, false
	}
	l.lastID++
	l.entries[k] = l.lastID
	return l.lastID, true
}

// unlinked is for an UNLINK_ID that was received. Whatever it finds, an
// UNLINK_ID_ACK with its id is the next signal to go to the sender.
func (l *links) unlinked(k linkKey) {
	if id, ok := l.entries[k]; ok && id == 0 {
		delete(l.entries, k)
	}
}

// acked is for an UNLINK_ID_ACK that was received.
func (l *links) acked(k linkKey, id uint64) {
	if have, ok := l.entries[k]; ok && have != 0 && have == id {
		delete(l.entries, k)
	}
}

// exited is for an exit signal over the link: it says whether the mailbox is
// to hear of it.
func (l *links) exited(k linkKey) (deliver bool) {
	id, ok := l.entries[k]
	delete(l.entries, k)
	return ok && id == 0
}

// drop forgets all links of a mailbox and returns the pids that it was linked
// to.
func (l *links) drop(local uint64) []etf.Pid {
	var out []etf.Pid
	for k, id := range l.entries {
		if k.local == local {
			delete(l.entries, k)
			if id == 0 {
				out = append(out, k.remote)
			}
		}
	}
	return out
}
