package target

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// What is not understood, or comes from another process, is passed over.
func TestShellMessages(t *testing.T) {
	leader := etf.Pid{Node: "a@b", ID: 7}
	var got []ShellOutput
	s := &shell{link: &node.Peer{}, leader: leader, out: func(o ShellOutput) error { got = append(got, o); return nil }}
	for _, msg := range []etf.Term{
		etf.Atom("noise"),
		etf.Tuple{leader},
		etf.Tuple{etf.Pid{Node: "a@b", ID: 8}, etf.Tuple{etf.Atom("output"), etf.Binary("x")}},
		etf.Tuple{leader, etf.Atom("output")},
		etf.Tuple{leader, etf.Tuple{etf.Atom("output"), etf.Binary("x"), etf.Int(1)}},
		etf.Tuple{leader, etf.Tuple{etf.Int(1), etf.Int(1)}},
		etf.Tuple{leader, etf.Tuple{etf.Atom("read"), etf.Int(1)}},
	} {
		ended, err := s.said(msg)
		assert.False(t, ended)
		assert.NoError(t, err)
	}
	assert.Empty(t, got)

	_, err := s.said(etf.Tuple{leader, etf.Tuple{etf.Atom("completions"), etf.Int(3), etf.Int(1), etf.List{etf.Binary("a"), etf.Int(1)}}})
	assert.NoError(t, err)
	assert.Equal(t, []ShellOutput{{Kind: OutputCompletions, ID: 3, Matches: []string{"a", ""}}}, got)
	ended, err := s.said(etf.Tuple{leader, etf.Tuple{etf.Atom("ended"), etf.Binary("normal")}})
	assert.True(t, ended)
	assert.NoError(t, err)
	ended, err = s.said(etf.Tuple{leader, etf.Tuple{etf.Atom("ended"), etf.Binary("killed")}})
	assert.True(t, ended)
	assert.ErrorContains(t, err, "killed")

	s.out = func(ShellOutput) error { return errors.New("no terminal") }
	for _, msg := range []etf.Tuple{{etf.Atom("output"), etf.Binary("x")}, {etf.Atom("read"), etf.Atom("line"), etf.Binary(""), etf.Atom("false")}} {
		_, err = s.said(etf.Tuple{leader, msg})
		assert.EqualError(t, err, "no terminal")
	}
	assert.NoError(t, s.tell(ShellInput{}), "a kind that is not known")
}
