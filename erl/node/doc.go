// Package node is a hidden Erlang node: it connects to BEAM nodes, calls
// functions on them, and has mailboxes that send, receive, link and monitor as
// processes do.
//
// It does not start processes for others (a spawn request is answered with
// notsup), is in no global name space, and never shows up in nodes() of a node
// that it connects to; in nodes(hidden) it does. It neither finds nodes nor
// connects again by itself.
//
//	n, err := node.New(node.Config{Name: "debughost-1f@host"})
//	go n.Run(ctx)
//	p, err := n.Connect(ctx, "shop@host", node.DialOptions{Cookie: dist.NewCookie(secret)})
//	sum, err := p.Call(ctx, "lists", "sum", etf.List{etf.Int(1), etf.Int(2)})
//
// # Names
//
// One Node speaks to targets with short and with long names alike: the side
// that accepts a connection does not compare the forms. A BEAM node that dials
// us does: net_kernel of a node with long names refuses a name whose host has
// no dot, and one with short names a host that has one. So only a Node that
// listens needs to choose.
//
// # Calls
//
// Peer.Call is erpc: a spawn request, with a monitor, of erpc:execute_call/4,
// whose process ends with the result as its exit reason. Any number of calls
// may be under way on one connection; each has a process identifier of its
// own, so that one with large arguments does not hold up the next. When the
// context of a call ends its process on the target is killed.
//
// # Goroutines
//
// Run waits for all of them before it returns.
//
//   - one for each attempt to connect, from Connect until the attempt ends;
//   - one for each Peer, from the end of the handshake until Done: it reads,
//     and dispatches what it reads (two more belong to its dist.Conn);
//   - one for each Peer whose send queue was full when a signal had to go out,
//     until it has gone out;
//   - one for each Peer while Run ends, which closes it;
//   - with Config.Accept: one that accepts, one for each handshake under way
//     (at most maxHandshakes), one that keeps the name registered.
//
// A Mailbox has none. No callback is called under a lock.
package node
