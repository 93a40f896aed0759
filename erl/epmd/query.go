package epmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// Requests and answers of the protocol.
const (
	reqAlive2      = 120
	reqPortPlease2 = 122
	reqNames       = 110
	respAlive2     = 121
	respAlive2X    = 118
	respPort2      = 119
)

// Limits of what is read. A node name is an atom, so at most 255 characters;
// "extra" is empty in all releases.
const (
	maxName  = 4 * 255
	maxNames = 1 << 20 // bytes of a whole list: about 20,000 nodes on one machine
)

// NodeType says what registered.
type NodeType uint8

// The types that OTP uses.
const (
	NodeNormal NodeType = 77
	NodeHidden NodeType = 72
)

// Node is what EPMD knows of a node.
type Node struct {
	Name     string // without host
	Port     int    // of the distribution protocol
	Type     NodeType
	Protocol uint8  // 0 is TCP over IPv4 (and IPv6)
	Highest  uint16 // version of the distribution protocol; 6 since OTP 23
	Lowest   uint16
	Extra    []byte
}

// Name is one line of the list of all nodes.
type Name struct {
	Name string // without host
	Port int
}

// Lookup asks the EPMD of host for the node name, "shop" of "shop@host".
// host is a name or an address; "" is this machine. It blocks until the
// answer, ctx, or Timeout. ErrNotRegistered says that no such node is there.
func (c *Client) Lookup(ctx context.Context, host, name string) (Node, error) {
	n, err := c.lookup(ctx, host, name)
	if err != nil {
		return Node{}, fmt.Errorf("look up node %s in epmd of %s: %w", name, hostName(host), cause(ctx, err))
	}
	return n, nil
}

func (c *Client) lookup(ctx context.Context, host, name string) (Node, error) {
	if err := checkName(name); err != nil {
		return Node{}, err
	}
	nc, release, err := c.connect(ctx, host)
	if err != nil {
		return Node{}, err
	}
	defer nc.Close()
	defer release()
	req := append([]byte{0, 0, reqPortPlease2}, name...)
	if err := send(nc, req); err != nil {
		return Node{}, err
	}
	return readNode(bufio.NewReaderSize(nc, 512))
}

// Names lists the nodes that the EPMD of host knows, in its order.
func (c *Client) Names(ctx context.Context, host string) ([]Name, error) {
	names, err := c.names(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("list nodes in epmd of %s: %w", hostName(host), cause(ctx, err))
	}
	return names, nil
}

func (c *Client) names(ctx context.Context, host string) ([]Name, error) {
	nc, release, err := c.connect(ctx, host)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	defer release()
	if err := send(nc, []byte{0, 0, reqNames}); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(nc, maxNames+1))
	if err != nil {
		return nil, err
	}
	return parseNames(b)
}

func hostName(host string) string {
	if host == "" {
		return "this machine"
	}
	return host
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || bytes.ContainsAny([]byte(name), "@ \n\x00") {
		return fmt.Errorf("%q is not the first part of a node name", name)
	}
	return nil
}

// send fills the length into the first two bytes of req and writes it.
func send(w io.Writer, req []byte) error {
	binary.BigEndian.PutUint16(req, uint16(len(req)-2))
	_, err := w.Write(req)
	return err
}

// readNode reads PORT2_RESP.
func readNode(r *bufio.Reader) (Node, error) {
	var head [2]byte
	if err := readFull(r, head[:]); err != nil {
		return Node{}, err
	}
	if head[0] != respPort2 {
		return Node{}, fmt.Errorf("%w: it starts with %d", ErrProtocol, head[0])
	}
	if head[1] != 0 {
		return Node{}, ErrNotRegistered
	}
	var b [10]byte
	if err := readFull(r, b[:]); err != nil {
		return Node{}, err
	}
	n := Node{
		Port:     int(binary.BigEndian.Uint16(b[0:])),
		Type:     NodeType(b[2]),
		Protocol: b[3],
		Highest:  binary.BigEndian.Uint16(b[4:]),
		Lowest:   binary.BigEndian.Uint16(b[6:]),
	}
	size := int(binary.BigEndian.Uint16(b[8:]))
	if size > maxName {
		return Node{}, fmt.Errorf("%w: a name of %d bytes", ErrProtocol, size)
	}
	name := make([]byte, size)
	if err := readFull(r, name); err != nil {
		return Node{}, err
	}
	n.Name = string(name)
	var extra [2]byte
	if err := readFull(r, extra[:]); err != nil {
		return Node{}, err
	}
	// The extra field is of no use to us: what is not there is not waited for
	// longer than for the rest.
	size = int(binary.BigEndian.Uint16(extra[:]))
	if size > maxName {
		return Node{}, fmt.Errorf("%w: extra field of %d bytes", ErrProtocol, size)
	}
	if size > 0 {
		n.Extra = make([]byte, size)
		if err := readFull(r, n.Extra); err != nil {
			return Node{}, err
		}
	}
	if n.Port == 0 {
		return Node{}, fmt.Errorf("%w: port 0", ErrProtocol)
	}
	return n, nil
}

// readFull reads b whole; an answer that ends early is none.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early", ErrProtocol)
	}
	return err
}

// parseNames reads NAMES_RESP: EPMD's port, then "name N at port P\n" for each.
// EPMD takes any bytes for a name from anybody on its machine, also a line's
// end: lines that make no sense are left out, so that nobody can hide the
// others. An answer in which no line makes sense is not EPMD's.
func parseNames(b []byte) ([]Name, error) {
	if len(b) > maxNames {
		return nil, fmt.Errorf("%w: more than %d bytes of names", ErrProtocol, maxNames)
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: it ends early", ErrProtocol)
	}
	var names []Name
	var bad error
	for line := range bytes.Lines(b[4:]) {
		if n, ok := parseLine(line); ok {
			names = append(names, n)
		} else if bad == nil {
			bad = fmt.Errorf("%w: line %.80q", ErrProtocol, line)
		}
	}
	if len(names) == 0 {
		return nil, bad
	}
	return names, nil
}

func parseLine(line []byte) (Name, bool) {
	line, whole := bytes.CutSuffix(line, []byte("\n"))
	line, named := bytes.CutPrefix(line, []byte("name "))
	at := bytes.LastIndex(line, []byte(" at port "))
	if !whole || !named || at < 1 {
		return Name{}, false
	}
	port, err := strconv.ParseUint(string(line[at+len(" at port "):]), 10, 16)
	name := line[:at]
	if err != nil || port == 0 || len(name) > maxName || !utf8.Valid(name) {
		return Name{}, false
	}
	return Name{string(name), int(port)}, true
}
