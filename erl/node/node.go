package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/debughost/debughost/erl/etf"
)

// Node is one incarnation of a hidden Erlang node. Its methods may be called
// from any goroutine.
type Node struct {
	cfg  Config
	name etf.Atom
	ids  idents

	// system is the pid that stands for the node itself: group leader of what
	// we spawn, sender of Peer.Send, and what the name net_kernel means.
	system etf.Pid

	started  chan struct{} // closed when Run has begun
	wg       sync.WaitGroup
	stats    counters
	decoders sync.Pool // of *etf.Decoder, with the limits of cfg

	mu        sync.Mutex
	running   bool
	closed    bool
	ctx       context.Context // of Run; valid once started
	peers     map[string]*Peer
	attempts  map[string]*attempt
	greetings map[string]*greeting
	mailboxes map[uint64]*Mailbox
	names     map[etf.Atom]*Mailbox
	aliases   map[uint64]*Mailbox
	addr      string // where we listen
}

// New returns a Node that does nothing until Run. The error tells what is
// wrong with the Config.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, name: etf.Atom(cfg.Name), started: make(chan struct{}),
		peers: map[string]*Peer{}, attempts: map[string]*attempt{},
		greetings: map[string]*greeting{},
		mailboxes: map[uint64]*Mailbox{}, names: map[etf.Atom]*Mailbox{}, aliases: map[uint64]*Mailbox{},
	}
	n.ids.node, n.ids.creation = n.name, cfg.Creation
	n.system = n.ids.mailboxPid()
	return n, nil
}

// Name is our full node name.
func (n *Node) Name() string { return n.cfg.Name }

// Creation is that of this incarnation.
func (n *Node) Creation() uint32 { return n.cfg.Creation }

// Run lets the node work until ctx ends, then closes all mailboxes and
// connections, as their Close says, and returns when all goroutines have ended:
// nil, or what keeps the accepting side from working. It is called once.
// Connect waits for it.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.mu.Lock()
	if n.running {
		n.mu.Unlock()
		return errors.New("node runs already, or did")
	}
	n.running, n.ctx = true, ctx
	n.mu.Unlock()

	err := n.listen(ctx)
	close(n.started)
	if err == nil {
		<-ctx.Done()
	}
	cancel()
	n.shutDown()
	return err
}

// shutDown ends everything and waits for it.
func (n *Node) shutDown() {
	n.mu.Lock()
	n.closed = true
	var boxes []*Mailbox
	for _, mb := range n.mailboxes {
		boxes = append(boxes, mb)
	}
	n.mu.Unlock()
	for _, mb := range boxes {
		mb.shut(ErrClosed, noproc)
	}
	for _, p := range n.Peers() {
		n.wg.Go(func() { p.close(ErrClosed) })
	}
	n.wg.Wait()
}

// Peers returns those that are connected, sorted by name.
func (n *Node) Peers() []*Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*Peer, 0, len(n.peers))
	for _, p := range n.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Peer) int { return strings.Compare(a.name, b.name) })
	return out
}

// Peer returns the connection to a node, by its full name; nil when there is
// none.
func (n *Node) Peer(name string) *Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[name]
}

// mailboxOf finds the mailbox of a pid that a peer sent, nil without one.
func (n *Node) mailboxOf(pid etf.Pid) *Mailbox {
	num, ok := n.ids.pidNumber(pid)
	if !ok {
		return nil
	}
	return n.mailboxNumbered(num)
}

func (n *Node) mailboxNumbered(num uint64) *Mailbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mailboxes[num]
}

// mailboxNamed finds the mailbox of a registered name, nil without one.
func (n *Node) mailboxNamed(name etf.Atom) *Mailbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.names[name]
}

// mailboxAliased finds the mailbox of an alias, nil without one.
func (n *Node) mailboxAliased(ref etf.Ref) *Mailbox {
	num, ok := n.ids.refNumber(ref)
	if !ok {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.aliases[num]
}

// decoder borrows a decoder; it goes back into decoders.
func (n *Node) decoder() *etf.Decoder {
	if d, ok := n.decoders.Get().(*etf.Decoder); ok {
		return d
	}
	return etf.NewDecoder(n.cfg.Limits)
}

// decode reads an encoded term without version byte, as Peer.CallRaw returns
// it, within the limits of the node.
func (n *Node) decode(b []byte) (etf.Term, error) {
	d := n.decoder()
	defer n.decoders.Put(d)
	d.SetCache(nil)
	return d.DecodeBody(b)
}

// Stats counts what a Node did not deliver.
type Stats struct {
	UnknownReceiver uint64 // messages to pids, names and aliases that are nobody's
	LateReplies     uint64 // answers to calls that nobody waits for any more
	UnknownSignals  uint64 // signals of kinds that mean nothing to us
}

type counters struct{ unknownReceiver, lateReplies, unknownSignals atomic.Uint64 }

// Stats returns the counts since New.
func (n *Node) Stats() Stats {
	return Stats{
		UnknownReceiver: n.stats.unknownReceiver.Load(),
		LateReplies:     n.stats.lateReplies.Load(),
		UnknownSignals:  n.stats.unknownSignals.Load(),
	}
}
