//go:build unix

package keeper

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a client of the keeper: a process of the plugin.
type conn struct {
	s       *server
	nc      *net.UnixConn
	out     chan []byte // lines; see send
	gone    chan struct{}
	once    sync.Once
	host    *os.File
	hostPid int

	// Under the server's lock.
	owned    int
	disowned chan struct{} // closed when nothing is owned any more and the client is gone
	lost     bool          // client and host are gone: what it owns is orphaned
	closed   bool          // the client is gone
}

// maxQueue bounds what waits for a client to read. One that does not read, for
// it is frozen, is disconnected, and asks anew when it thaws.
const maxQueue = 4096

func newConn(s *server, nc *net.UnixConn) *conn {
	return &conn{s: s, nc: nc, out: make(chan []byte, maxQueue), gone: make(chan struct{}), disowned: make(chan struct{})}
}

// close ends the connection. It may be called at any time.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.nc.Close()
	})
}

func (c *conn) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// send queues a message. It never blocks.
func (c *conn) send(m message) {
	line, err := encode(m)
	if err != nil {
		line, _ = encode(message{N: m.N, Error: toFailure(err)})
	}
	select {
	case c.out <- line:
	case <-c.gone:
	default:
		c.close()
	}
}

// run serves the client until it is gone, and then waits for the host.
func (c *conn) run() {
	var parts sync.WaitGroup
	parts.Go(c.write)
	var requests sync.WaitGroup
	c.read(&requests)
	c.close()
	parts.Wait()
	requests.Wait()

	s := c.s
	s.mu.Lock()
	delete(s.conns, c)
	c.closed = true
	s.disown(c, 0)
	s.restless()
	s.mu.Unlock()
	awaitHost(c.host, c.hostPid, c.disowned)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.lost = true
	for _, k := range s.children {
		if k.owner == c {
			s.orphan(k)
		}
	}
}

// disown takes commands from a connection. The caller holds the lock.
func (s *server) disown(c *conn, n int) {
	if c == nil {
		return
	}
	if c.owned -= n; c.owned == 0 && c.closed {
		select {
		case <-c.disowned:
		default:
			close(c.disowned)
		}
	}
}

func (c *conn) write() {
	for {
		select {
		case line := <-c.out:
			_ = c.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.nc.Write(line); err != nil {
				c.close()
				return
			}
		case <-c.gone:
			return
		}
	}
}

// read takes requests. Each is handled beside the others; their order is not
// kept.
func (c *conn) read(requests *sync.WaitGroup) {
	greeted := false
	buf := make([]byte, 4<<10)
	var line []byte
	for {
		n, err := c.receive(buf, greeted)
		if err != nil || n == 0 {
			return
		}
		for piece := buf[:n]; len(piece) > 0; {
			end := bytes.IndexByte(piece, '\n')
			if end < 0 {
				line = append(line, piece...)
				break
			}
			line = append(line, piece[:end]...)
			r := &request{}
			if json.Unmarshal(line, r) != nil || (r.Op == opHello) == greeted {
				return // not a client of ours
			}
			line, piece = nil, piece[end+1:]
			if !greeted {
				greeted = true
				c.hostPid = r.Host
				c.send(message{N: r.N, Hello: &hello{Version: protocol, Isolation: c.s.isolation()}})
				continue
			}
			requests.Go(func() { c.send(c.s.handle(c, r)) })
		}
		if len(line) > maxLine {
			return
		}
	}
}

func (c *conn) receive(buf []byte, greeted bool) (int, error) {
	if greeted {
		return c.nc.Read(buf)
	}
	n, host, err := receiveHost(c.nc, buf)
	if host != nil {
		if c.host != nil {
			_ = c.host.Close()
		}
		c.host = host
	}
	return n, err
}
