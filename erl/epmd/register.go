package epmd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Registration keeps a name in EPMD, by its open connection.
type Registration struct {
	// Creation tells this incarnation of the node from earlier ones. It is
	// never 0; an EPMD older than OTP 23 gives 1 to 3 only.
	Creation uint32

	nc   net.Conn
	lost chan struct{}

	mu     sync.Mutex
	closed bool
	err    error
}

// Register enters n in the EPMD of this machine. Of n, Name and Port have to be
// set; Type, Highest and Lowest default to a hidden node of version 6. The
// registration lives until Close, or until EPMD ends, which Lost tells.
//
// Register starts one goroutine, which waits for EPMD to close the connection;
// Close ends it.
func (c *Client) Register(ctx context.Context, n Node) (*Registration, error) {
	r, err := c.register(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("register node %s in epmd: %w", n.Name, cause(ctx, err))
	}
	return r, nil
}

func (c *Client) register(ctx context.Context, n Node) (*Registration, error) {
	if err := checkName(n.Name); err != nil {
		return nil, err
	}
	if n.Port < 1 || n.Port > 65535 {
		return nil, fmt.Errorf("%d is not a port", n.Port)
	}
	if len(n.Extra) > maxName {
		return nil, errors.New("extra field is too long")
	}
	nc, release, err := c.connect(ctx, "")
	if err != nil {
		return nil, err
	}
	r, err := register(nc, n)
	release()
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	go r.watch()
	return r, nil
}

func register(nc net.Conn, n Node) (*Registration, error) {
	if n.Type == 0 {
		n.Type = NodeHidden
	}
	if n.Highest == 0 {
		n.Highest, n.Lowest = 6, 6
	}
	b := []byte{0, 0, reqAlive2}
	b = binary.BigEndian.AppendUint16(b, uint16(n.Port))
	b = append(b, byte(n.Type), n.Protocol)
	b = binary.BigEndian.AppendUint16(b, n.Highest)
	b = binary.BigEndian.AppendUint16(b, n.Lowest)
	b = binary.BigEndian.AppendUint16(b, uint16(len(n.Name)))
	b = append(b, n.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(n.Extra)))
	b = append(b, n.Extra...)
	if err := send(nc, b); err != nil {
		return nil, err
	}
	creation, err := readCreation(bufio.NewReaderSize(nc, 16))
	if err != nil {
		return nil, err
	}
	return &Registration{Creation: creation, nc: nc, lost: make(chan struct{})}, nil
}

// readCreation reads ALIVE2_X_RESP, or ALIVE2_RESP of an older EPMD.
func readCreation(r *bufio.Reader) (uint32, error) {
	var b [4]byte
	if err := readFull(r, b[:2]); err != nil {
		return 0, err
	}
	size := 4
	switch b[0] {
	case respAlive2X:
	case respAlive2:
		size = 2
	default:
		return 0, fmt.Errorf("%w: it starts with %d", ErrProtocol, b[0])
	}
	if b[1] != 0 {
		return 0, ErrNameTaken
	}
	if err := readFull(r, b[:size]); err != nil {
		return 0, err
	}
	creation := binary.BigEndian.Uint32(b[:])
	if size == 2 {
		creation = uint32(binary.BigEndian.Uint16(b[:]))
	}
	if creation == 0 {
		return 0, fmt.Errorf("%w: creation 0", ErrProtocol)
	}
	return creation, nil
}

// Lost is closed when the registration has ended. Err tells why.
func (r *Registration) Lost() <-chan struct{} { return r.lost }

// Err returns why the registration ended: net.ErrClosed after Close, an error
// of the network, or io.EOF when EPMD ended; nil while it lives.
func (r *Registration) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close takes the name out of EPMD and waits for the goroutine to end.
func (r *Registration) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	err := r.nc.Close()
	<-r.lost
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// watch waits for the end; EPMD sends nothing more.
func (r *Registration) watch() {
	defer close(r.lost)
	_, err := io.Copy(io.Discard, r.nc)
	if err == nil {
		err = io.EOF
	}
	r.nc.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		err = net.ErrClosed
	}
	r.err = err
}
