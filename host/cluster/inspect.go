package cluster

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// inspector asks this member's memberlist for the states of all members.
//
// memberlist tells neither who is suspect nor whether somebody who is gone has
// died or left, but it does tell its peers, whenever they compare their states.
// So the inspector is such a peer: a second, idle memberlist without a network,
// which joins the first one over a pipe, reads, and has both refuse to merge.
type inspector struct {
	list    *memberlist.Memberlist
	streams chan<- net.Conn // memberlist's
	done    chan struct{}
	found   []*memberlist.Node
}

// inspectorName is no name that a member can have.
const inspectorName = "\x00inspector"

var errInspection = errors.New("only an inspection")

// newInspector has memberlist's goroutines run until close.
func newInspector(of *memberlist.Config, streams chan<- net.Conn) (*inspector, error) {
	i := &inspector{streams: streams, done: make(chan struct{})}
	c := *of
	c.Name = inspectorName
	c.Transport = (*inspectorTransport)(i)
	c.Merge = i
	c.Delegate, c.Events, c.Conflict, c.Alive, c.Ping = nil, nil, nil, nil, nil
	c.ProbeInterval, c.GossipInterval, c.PushPullInterval = 0, 0, 0
	c.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(&c)
	if err != nil {
		return nil, fmt.Errorf("start inspector of gossip: %w", err)
	}
	i.list = list
	return i, nil
}

// NotifyMerge gets the states. It is called by inspect's Join, in its
// goroutine.
func (i *inspector) NotifyMerge(nodes []*memberlist.Node) error {
	i.found = nodes
	return errInspection
}

// inspect returns all members in memberlist's list. One goroutine calls it.
func (i *inspector) inspect() ([]seen, error) {
	i.found = nil
	_, err := i.list.Join([]string{"127.0.0.1:1"})
	if i.found == nil {
		return nil, fmt.Errorf("inspect gossip: %w", err)
	}
	out := make([]seen, 0, len(i.found))
	for _, n := range i.found {
		m, err := parseMeta(n.Meta)
		if err != nil { // no such node gets past NotifyAlive
			continue
		}
		s := seen{name: n.Name, addr: n.Address(), meta: m}
		switch n.State {
		case memberlist.StateAlive:
			s.state = Alive
		case memberlist.StateSuspect:
			s.state = Suspect
		case memberlist.StateLeft:
			s.state = Left
		default:
			s.state = Dead
		}
		out = append(out, s)
	}
	return out, nil
}

func (i *inspector) close() {
	close(i.done)
	_ = i.list.Shutdown()
}

// isInspection recognises the inspector in what it wants to merge.
func isInspection(peers []*memberlist.Node) bool {
	return len(peers) == 1 && peers[0].Name == inspectorName
}

// inspectorTransport has no packets, and dials the member's own memberlist.
type inspectorTransport inspector

var _ memberlist.NodeAwareTransport = (*inspectorTransport)(nil)

func (t *inspectorTransport) DialTimeout(string, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case t.streams <- theirs:
		return ours, nil
	case <-t.done:
		return nil, errShutdown
	}
}

func (t *inspectorTransport) DialAddressTimeout(_ memberlist.Address, d time.Duration) (net.Conn, error) {
	return t.DialTimeout("", d)
}

func (t *inspectorTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1), 1, nil
}

func (t *inspectorTransport) WriteTo(b []byte, _ string) (time.Time, error) { return time.Now(), nil }

func (t *inspectorTransport) WriteToAddress(b []byte, _ memberlist.Address) (time.Time, error) {
	return time.Now(), nil
}

func (t *inspectorTransport) PacketCh() <-chan *memberlist.Packet { return nil }
func (t *inspectorTransport) StreamCh() <-chan net.Conn           { return nil }
func (t *inspectorTransport) Shutdown() error                     { return nil }

// gossipLog takes memberlist's log lines. What of them an operator should know
// is told by the table's events; the rest is for the developer.
type gossipLog struct {
	write func(line string)
}

func (g gossipLog) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	if !strings.Contains(line, errInspection.Error()) && !strings.Contains(line, "Stream connection from=pipe") {
		g.write(line)
	}
	return len(b), nil
}
