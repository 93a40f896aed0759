package erltest

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Step is one thing that a fake peer does on a connection. An error ends the
// script and closes the connection, as the end of the script does.
type Step func(c *FakeConn) error

// FakePeer accepts distribution connections and does what its script says, the
// same on each. Its errors are not the test's: what the other side sees is.
//
// Goroutines: one accepts, one runs the script of each connection; all end
// with the test.
type FakePeer struct {
	Name   string // full name, fake@localhost
	Cookie string
	Port   int

	l      net.Listener
	script []Step
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	conns    map[*FakeConn]bool
	accepted int
}

// StartFakePeer starts a peer that ends with the test, known to epmd by its
// name; epmd may be nil.
func StartFakePeer(t testing.TB, epmd *FakeEPMD, script ...Step) *FakePeer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &FakePeer{
		Name: "fake" + randomHex(4) + "@localhost", Cookie: "fakecookie",
		Port: l.Addr().(*net.TCPAddr).Port, l: l, script: script, conns: map[*FakeConn]bool{},
	}
	if epmd != nil {
		short, _, _ := strings.Cut(p.Name, "@")
		epmd.Set(short, p.Port)
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr is where it listens, as host:port.
func (p *FakePeer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)) }

// Accepted counts the connections so far.
func (p *FakePeer) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Close closes the listener and all connections, and returns when the
// goroutines have ended. It may be called again.
func (p *FakePeer) Close() {
	_ = p.l.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *FakePeer) accept() {
	for {
		nc, err := p.l.Accept()
		if err != nil {
			return
		}
		c := &FakeConn{Conn: nc, Name: p.Name, Cookie: p.Cookie}
		p.mu.Lock()
		if p.closed {
			_ = c.Close()
		}
		p.accepted++
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Go(func() {
			_ = c.run(p.script)
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// DialFake connects to addr as a misbehaving node that dials, runs the script
// in the calling goroutine, and returns the first step's error. The name and
// cookie are those that AsDialer uses.
func DialFake(addr, name, cookie string, script ...Step) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return (&FakeConn{Conn: nc, Name: name, Cookie: cookie}).run(script)
}
