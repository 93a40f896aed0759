package node

import (
	"context"
	"fmt"
	"sync"

	"github.com/debughost/debughost/erl/etf"
)

// MailboxOptions bound a Mailbox.
type MailboxOptions struct {
	// Messages is how many may wait; default 1024.
	Messages int
	// Bytes is how large the waiting ones may be together, encoded; default
	// DefaultMailboxBytes. An empty mailbox takes any one message.
	Bytes int
	// Drop makes a full mailbox drop and count what arrives. Without it the
	// mailbox is closed with ErrMailboxOverflow, as a process is killed whose
	// heap is too large, and those that are linked to it or monitor it hear
	// so. What a link or a monitor of the mailbox's own announces is never
	// dropped: it comes once for each.
	Drop bool
}

// Mailbox is what a process is to others: it has a pid, may have names and
// aliases, and receives messages, exit signals and monitor messages into a
// bounded queue. Only processes of connected nodes can reach it, not other
// mailboxes of the same Node. Its methods may be called from any goroutine.
type Mailbox struct {
	node *Node
	pid  etf.Pid
	num  uint64
	opts MailboxOptions
	done chan struct{} // closed with err set
	wake chan struct{} // has a token if the queue may have a message

	mu      sync.Mutex
	queue   []*Message
	bytes   int
	dropped uint64
	closed  bool
	err     error
}

// NewMailbox returns a mailbox for so many messages that is closed when they
// become more. It lives until Close, or until the node's Run ends.
func (n *Node) NewMailbox(messages int) *Mailbox {
	return n.NewMailboxWith(MailboxOptions{Messages: messages})
}

// NewMailboxWith returns a mailbox. On a node that is closed it is closed.
func (n *Node) NewMailboxWith(o MailboxOptions) *Mailbox {
	if o.Messages <= 0 {
		o.Messages = 1024
	}
	if o.Bytes <= 0 {
		o.Bytes = DefaultMailboxBytes
	}
	mb := &Mailbox{node: n, pid: n.ids.mailboxPid(), opts: o, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	mb.num, _ = n.ids.pidNumber(mb.pid)
	n.mu.Lock()
	closed := n.closed
	if !closed {
		n.mailboxes[mb.num] = mb
	}
	n.mu.Unlock()
	if closed {
		mb.shut(ErrClosed, noproc)
	}
	return mb
}

// Pid is the address of the mailbox.
func (mb *Mailbox) Pid() etf.Pid { return mb.pid }

// Done is closed when the mailbox is. What had arrived can still be received.
func (mb *Mailbox) Done() <-chan struct{} { return mb.done }

// Dropped counts what a full mailbox dropped.
func (mb *Mailbox) Dropped() uint64 {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.dropped
}

// Len is how many messages wait.
func (mb *Mailbox) Len() int {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return len(mb.queue)
}

// Receive returns the oldest message, waiting for one until ctx ends or the
// mailbox is closed. A closed mailbox first returns what it has, then why it
// was closed: ErrMailboxClosed, ErrMailboxOverflow, ErrMailboxKilled, or
// ErrClosed with its node.
func (mb *Mailbox) Receive(ctx context.Context) (Message, error) {
	for {
		if m, ok, err := mb.take(); ok || err != nil {
			return m, err
		}
		select {
		case <-mb.wake:
		case <-mb.done:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// take pops a message; err is why there will be none any more.
func (mb *Mailbox) take() (m Message, ok bool, err error) {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	if len(mb.queue) == 0 {
		mb.queue = nil // gives the drained array back
		return Message{}, false, mb.err
	}
	m = *mb.queue[0]
	mb.queue[0] = nil
	mb.queue = mb.queue[1:]
	mb.bytes -= m.size()
	if len(mb.queue) > 0 {
		mb.notify()
	}
	return m, true, nil
}

func (mb *Mailbox) notify() {
	select {
	case mb.wake <- struct{}{}:
	default:
	}
}

// put takes in a message; it never blocks. must is for what is never dropped.
// No lock of a Peer is held.
func (mb *Mailbox) put(m *Message, must bool) {
	if !mb.enqueue(m, must) {
		mb.overflow()
	}
}

// overflow closes a mailbox that enqueue found full.
func (mb *Mailbox) overflow() { mb.shut(ErrMailboxOverflow, killed) }

// enqueue is put for those that hold a Peer's lock: where it returns false
// they call overflow once they have let it go.
func (mb *Mailbox) enqueue(m *Message, must bool) bool {
	m.node = mb.node
	mb.mu.Lock()
	defer mb.mu.Unlock()
	size := m.size()
	full := len(mb.queue) >= mb.opts.Messages || len(mb.queue) > 0 && mb.bytes+size > mb.opts.Bytes
	switch {
	case mb.closed:
	case full && !mb.opts.Drop:
		return false
	case full && !must:
		mb.dropped++
	default:
		mb.queue = append(mb.queue, m)
		mb.bytes += size
		mb.notify()
	}
	return true
}

// Close closes the mailbox. Processes that are linked to it hear an exit
// signal with reason normal, those that monitor it a DOWN.
func (mb *Mailbox) Close() { mb.Exit(etf.Atom("normal")) }

// Exit is Close with another reason for the processes that are tied to it.
func (mb *Mailbox) Exit(reason etf.Term) { mb.shut(ErrMailboxClosed, reason) }

// shut closes the mailbox once: new links and monitors fail from then on, and
// those there are end with reason.
func (mb *Mailbox) shut(err error, reason etf.Term) {
	mb.mu.Lock()
	first := !mb.closed
	mb.closed = true
	mb.mu.Unlock()
	if !first {
		return
	}
	mb.node.release(mb)
	for _, p := range mb.node.Peers() {
		p.dropMailbox(mb, reason)
	}
	mb.mu.Lock()
	mb.err = err
	mb.mu.Unlock()
	close(mb.done)
}

func (mb *Mailbox) isClosed() bool {
	mb.mu.Lock()
	defer mb.mu.Unlock()
	return mb.closed
}

// release takes a mailbox, its names and its aliases out of the node.
func (n *Node) release(mb *Mailbox) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mailboxes, mb.num)
	for name, owner := range n.names {
		if owner == mb {
			delete(n.names, name)
		}
	}
	for num, owner := range n.aliases {
		if owner == mb {
			delete(n.aliases, num)
		}
	}
}

// Register gives the mailbox a name of the node. net_kernel is the node's own.
func (mb *Mailbox) Register(name string) error {
	mb.node.mu.Lock()
	defer mb.node.mu.Unlock()
	switch {
	case mb.node.names[etf.Atom(name)] != nil || name == netKernel:
		return fmt.Errorf("register %s: %w", name, ErrNameTaken)
	case mb.node.mailboxes[mb.num] != mb:
		return fmt.Errorf("register %s: %w", name, ErrMailboxClosed)
	}
	mb.node.names[etf.Atom(name)] = mb
	return nil
}

// Unregister takes a name away from the mailbox that has it.
func (mb *Mailbox) Unregister(name string) {
	mb.node.mu.Lock()
	defer mb.node.mu.Unlock()
	if mb.node.names[etf.Atom(name)] == mb {
		delete(mb.node.names, etf.Atom(name))
	}
}

// Alias returns a new alias: a reference that messages can be sent to until
// Unalias.
func (mb *Mailbox) Alias() etf.Ref {
	ref, num := mb.node.ids.ref()
	mb.node.mu.Lock()
	defer mb.node.mu.Unlock()
	if mb.node.mailboxes[mb.num] == mb {
		mb.node.aliases[num] = mb
	}
	return ref
}

// Unalias ends an alias of the mailbox: what is sent to it is dropped.
func (mb *Mailbox) Unalias(alias etf.Ref) {
	num, _ := mb.node.ids.refNumber(alias)
	mb.node.mu.Lock()
	defer mb.node.mu.Unlock()
	if mb.node.aliases[num] == mb {
		delete(mb.node.aliases, num)
	}
}

// peer is the connection to the node of a pid.
func (mb *Mailbox) peer(name etf.Atom) (*Peer, error) {
	if p := mb.node.Peer(string(name)); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNotConnected)
}

// Send sends a message to a process, as Peer.Send does, from the mailbox's
// pid.
func (mb *Mailbox) Send(to etf.Pid, msg etf.Term) error {
	p, err := mb.peer(to.Node)
	if err != nil {
		return err
	}
	return p.send(mb.pid, to, msg)
}

// SendName sends a message to a registered name of a node.
func (mb *Mailbox) SendName(node, name string, msg etf.Term) error {
	p, err := mb.peer(etf.Atom(node))
	if err != nil {
		return err
	}
	return p.sendName(mb.pid, name, msg)
}

// SendExit sends a process an exit signal, as exit/2 does.
func (mb *Mailbox) SendExit(to etf.Pid, reason etf.Term) error {
	p, err := mb.peer(to.Node)
	if err != nil {
		return err
	}
	return p.exit(mb.pid, to, reason)
}
