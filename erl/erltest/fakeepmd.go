package erltest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Requests of the EPMD protocol.
const (
	epmdAlive2 = 120
	epmdPort2  = 122
	epmdNames  = 110
)

// FakeEPMD speaks EPMD's protocol from a table that the test fills, and says
// anything else if the test wants so. Safe for concurrent use.
//
// Goroutines: one accepts, one serves each connection; all end with the test.
type FakeEPMD struct {
	Port int

	l  net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool
	names    map[string]int
	override func(request []byte) []byte
	asked    int
}

// StartFakeEPMD starts one that ends with the test.
func StartFakeEPMD(t testing.TB) *FakeEPMD {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &FakeEPMD{Port: l.Addr().(*net.TCPAddr).Port, l: l, conns: map[net.Conn]bool{}, names: map[string]int{}}
	e.wg.Go(e.accept)
	t.Cleanup(e.Close)
	return e
}

// Addr is where it listens, as host:port.
func (e *FakeEPMD) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(e.Port)) }

// Env is what a process needs in its environment to use this EPMD.
func (e *FakeEPMD) Env() []string { return (&EPMD{Port: e.Port}).Env() }

// Setenv makes the test process use this EPMD until the test ends.
func (e *FakeEPMD) Setenv(t testing.TB) { (&EPMD{Port: e.Port}).Setenv(t) }

// Set registers a name, the part before the @, at a port.
func (e *FakeEPMD) Set(name string, port int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[name] = port
}

// Remove forgets a name.
func (e *FakeEPMD) Remove(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.names, name)
}

// Lookup returns the port of a name, 0 when it is not registered.
func (e *FakeEPMD) Lookup(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.names[name]
}

// Answer makes f say what goes back to every request (without its length);
// afterwards the connection is closed. A nil answer leaves it open and silent;
// a nil f brings back the table.
func (e *FakeEPMD) Answer(f func(request []byte) []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.override = f
}

// Asked counts the requests so far.
func (e *FakeEPMD) Asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// Close closes the listener and all connections, and returns when the
// goroutines have ended. It may be called again.
func (e *FakeEPMD) Close() {
	_ = e.l.Close()
	e.mu.Lock()
	e.closed = true
	for c := range e.conns {
		_ = c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

func (e *FakeEPMD) accept() {
	for {
		c, err := e.l.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		if e.closed {
			_ = c.Close()
		}
		e.conns[c] = true
		e.mu.Unlock()
		e.wg.Go(func() {
			e.serve(c)
			_ = c.Close()
			e.mu.Lock()
			delete(e.conns, c)
			e.mu.Unlock()
		})
	}
}

// serve answers the one request of a connection. Where the protocol keeps the
// connection open it returns when the client closes it.
func (e *FakeEPMD) serve(c net.Conn) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	req := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, req); err != nil || len(req) == 0 {
		return
	}
	e.mu.Lock()
	e.asked++
	override := e.override
	e.mu.Unlock()
	if override != nil {
		if b := override(req); b != nil {
			_, _ = c.Write(b)
			return
		}
		_, _ = io.Copy(io.Discard, c)
		return
	}
	switch req[0] {
	case epmdNames:
		_, _ = c.Write(e.namesAnswer())
	case epmdPort2:
		_, _ = c.Write(e.portAnswer(string(req[1:])))
	case epmdAlive2:
		e.serveAlive(c, req[1:])
	}
}

func (e *FakeEPMD) namesAnswer() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for n, p := range e.names {
		fmt.Fprintf(&b, "name %s at port %d\n", n, p)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(e.Port)), b.String()...)
}

// portAnswer is PORT2_RESP: a normal node (77) over TCP (0), versions 6 to 5.
func (e *FakeEPMD) portAnswer(name string) []byte {
	port := e.Lookup(name)
	if port == 0 {
		return []byte{119, 1}
	}
	b := binary.BigEndian.AppendUint16([]byte{119, 0}, uint16(port))
	b = append(b, 77, 0, 0, 6, 0, 5)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	return append(append(b, name...), 0, 0)
}

// serveAlive is ALIVE2_REQ: the name stays while the connection does.
func (e *FakeEPMD) serveAlive(c net.Conn, b []byte) {
	if len(b) < 10 || len(b) < 10+int(binary.BigEndian.Uint16(b[8:])) {
		return
	}
	name := string(b[10 : 10+int(binary.BigEndian.Uint16(b[8:]))])
	e.Set(name, int(binary.BigEndian.Uint16(b)))
	defer e.Remove(name)
	_, _ = c.Write([]byte{118, 0, 0, 0, 0, 7}) // ALIVE2_X_RESP, creation 7
	_, _ = io.Copy(io.Discard, c)
}
