package node

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/debughost/debughost/erl/etf"
)

// linkSignal is LINK (id 0), UNLINK_ID, or UNLINK_ID_ACK.
type linkSignal struct {
	ack bool
	id  uint64
}

// linkEnd is one end of a link with the signals that are on their way to it.
type linkEnd struct {
	links
	inbox []linkSignal
}

var linkPair = linkKey{local: 2, remote: etf.Pid{Node: "x@y", ID: 1}}

func (e *linkEnd) active() bool {
	id, ok := e.entries[linkPair]
	return ok && id == 0
}

// deliver handles the oldest signal that is on its way to e.
func (e *linkEnd) deliver(other *linkEnd) {
	s := e.inbox[0]
	e.inbox = e.inbox[1:]
	switch {
	case s.ack:
		e.acked(linkPair, s.id)
	case s.id == 0:
		e.linked(linkPair)
	default:
		e.unlinked(linkPair)
		other.inbox = append(other.inbox, linkSignal{ack: true, id: s.id})
	}
}

// Whatever two ends do and however their signals cross, once all signals are
// in they agree on whether they are linked, and no entry waits for anything.
func TestLinkEndsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := &linkEnd{links: newLinks()}, &linkEnd{links: newLinks()}
		ends := []*linkEnd{a, b}
		t.Repeat(map[string]func(*rapid.T){
			"link": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				if ends[i].link(linkPair) {
					ends[1-i].inbox = append(ends[1-i].inbox, linkSignal{})
				}
				require.True(t, ends[i].active())
			},
			"unlink": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				if id, send := ends[i].unlink(linkPair); send {
					ends[1-i].inbox = append(ends[1-i].inbox, linkSignal{id: id})
				}
				require.False(t, ends[i].active())
			},
			"deliver": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				if len(ends[i].inbox) == 0 {
					t.Skip("nothing on its way")
				}
				ends[i].deliver(ends[1-i])
			},
		})
		for len(a.inbox)+len(b.inbox) > 0 {
			for i, e := range ends {
				if len(e.inbox) > 0 {
					e.deliver(ends[1-i])
				}
			}
		}
		require.Equal(t, a.active(), b.active())
		for _, e := range ends {
			for _, id := range e.entries {
				require.Zero(t, id, "an end waits for an acknowledgement for good")
			}
		}
	})
}

func TestLinkExit(t *testing.T) {
	l := newLinks()
	require.False(t, l.exited(linkPair), "not linked")
	l.link(linkPair)
	require.True(t, l.exited(linkPair))
	require.False(t, l.exited(linkPair), "only once")
	l.link(linkPair)
	_, send := l.unlink(linkPair)
	require.True(t, send)
	require.False(t, l.exited(linkPair), "unlinked, though not acknowledged")
	require.Empty(t, l.entries)

	l.linked(linkPair)
	l.link(linkKey{local: 4, remote: linkPair.remote})
	require.Equal(t, []etf.Pid{linkPair.remote}, l.drop(linkPair.local))
	require.Len(t, l.entries, 1)
}
