package node

import (
	"errors"
	"fmt"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
)

// Kind is what a Message is.
type Kind uint8

const (
	// Send is an ordinary message.
	Send Kind = iota + 1
	// Exit is an exit signal: a linked process ended, or somebody called
	// exit/2. Mailboxes trap exits, as Erlang has it.
	Exit
	// Down says that a monitored process ended, or that the connection to it
	// did; its monitor is gone with it.
	Down
)

// String returns the name of the kind.
func (k Kind) String() string {
	switch k {
	case Send:
		return "send"
	case Exit:
		return "exit"
	case Down:
		return "down"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Message is what a Mailbox receives.
type Message struct {
	Kind Kind
	// Node is the full name of the node that it came from.
	Node string
	// From is the sender, the process that exited, or the monitored one. It is
	// zero for a Send of a node that does not tell, and for a Down of a
	// monitored name.
	From etf.Pid
	// FromName is the monitored name of such a Down.
	FromName etf.Atom
	// Ref is the monitor of a Down, and the alias of a Send to an alias.
	Ref etf.Ref

	payload dist.Payload
	term    etf.Term // instead of payload
	node    *Node    // whose limits hold
}

// overhead is what a message counts for in a mailbox beside its payload.
const overhead = 128

func (m *Message) size() int { return overhead + m.payload.Len() }

// Term decodes what the message carries: the message of a Send, the reason of
// an Exit or a Down. The error concerns this message only.
func (m *Message) Term() (etf.Term, error) {
	if m.term != nil {
		return m.term, nil
	}
	d := m.node.decoder()
	defer m.node.decoders.Put(d)
	t, err := m.payload.Decode(d)
	if err != nil {
		return nil, fmt.Errorf("decode %s from %s: %w", m.Kind, m.Node, err)
	}
	return t, nil
}

// errCached says that bytes mean nothing outside of their connection.
var errCached = errors.New("term refers to the connection's atom cache")

// Body is what Term decodes, encoded, without the version byte. It must not be
// written to.
func (m *Message) Body() ([]byte, error) {
	if m.term != nil {
		return etf.Append(nil, m.term)
	}
	return body(m.payload)
}

// body is the encoding of a payload that stands on its own.
func body(p dist.Payload) ([]byte, error) {
	switch {
	case p.Err() != nil:
		return nil, p.Err()
	case p.Empty():
		return nil, dist.ErrNoPayload
	case len(p.Atoms()) > 0:
		return nil, errCached
	}
	return p.Body(), nil
}
