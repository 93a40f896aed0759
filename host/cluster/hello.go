package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Before a member joins another one it says hello on a stream of its own, since
// memberlist cannot tell why it does not understand somebody. The answer names
// nothing that is secret: hashes of the keys and of the label.
//
//	question: "DHOS" | version
//	answer:   "DHOS" | version | instance (8 bytes) | label (8 bytes) | n | n × key id (4 bytes)
//
// version and n are bytes. Later versions append to the answer.
type hello struct {
	instance [8]byte // of the member's life, see instanceOf
	label    [8]byte // the first bytes of the label's SHA-256
	keys     [][4]byte
}

const (
	helloVersion = 1
	helloMax     = 256
)

var helloMagic = []byte("DHOS") // its first byte begins nothing of memberlist's or TLS's

func (h hello) append(b []byte) []byte {
	b = append(b, helloMagic...)
	b = append(b, helloVersion)
	b = append(b, h.instance[:]...)
	b = append(b, h.label[:]...)
	keys := h.keys[:min(len(h.keys), MaxKeys)]
	b = append(b, byte(len(keys)))
	for _, k := range keys {
		b = append(b, k[:]...)
	}
	return b
}

func parseHello(b []byte) (h hello, err error) {
	r := reader{b: b}
	if magic := r.bytes(len(helloMagic)); !bytes.Equal(magic, helloMagic) {
		return h, errNoMember
	}
	version := r.byte()
	copy(h.instance[:], r.bytes(8))
	copy(h.label[:], r.bytes(8))
	n := r.byte()
	if n > MaxKeys {
		r.fail(fmt.Errorf("%d keys", n))
	}
	for range n {
		k := r.bytes(4)
		if r.err != nil {
			break
		}
		h.keys = append(h.keys, [4]byte(k))
	}
	if version == 0 || version == helloVersion && len(r.b) > 0 {
		r.fail(errors.New("it has another length"))
	}
	if r.err != nil {
		return hello{}, fmt.Errorf("parse a member's hello: %w", r.err)
	}
	return h, nil
}

var errNoMember = errors.New("what listens there is no debughost, or one without a cluster")

// errSelf: an address is this member's own.
var errSelf = errors.New("this member itself")

// instanceOf tells lives of members apart, and an address of one's own.
func instanceOf(name string, epoch uint64) (out [8]byte) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("debughost life "+name+" "), epoch))
	copy(out[:], sum[:])
	return out
}

func labelHash(label string) (out [8]byte) {
	sum := sha256.Sum256([]byte("debughost label " + label))
	copy(out[:], sum[:])
	return out
}

func (c *Cluster) hello() hello {
	h := hello{label: labelHash(c.cfg.Label)}
	h.instance = instanceOf(c.cfg.Name, c.cfg.Epoch)
	keys, _ := c.cfg.Keys.snapshot()
	for _, k := range keys {
		h.keys = append(h.keys, k.id())
	}
	return h
}

// greet asks who listens at an address. The error says why no member can be
// joined there, in an operator's words.
func (c *Cluster) greet(ctx context.Context, addr string) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.times.dial)
	defer cancel()
	conn, err := c.dial(ctx, addr)
	if err != nil {
		return hello{}, err
	}
	defer conn.Close()
	h, err := ask(ctx, conn)
	if err != nil {
		return hello{}, err
	}
	return h, c.hello().accepts(h)
}

// ask says hello on a connection and reads the answer.
func ask(ctx context.Context, conn net.Conn) (hello, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(bytes.Clone(helloMagic), helloVersion)); err != nil {
		return hello{}, shortError(err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, helloMax))
	if len(answer) == 0 {
		if err == nil {
			err = errNoMember
		} else if ctx.Err() != nil {
			err = errors.New("it accepts connections and does not answer")
		}
		return hello{}, err
	}
	return parseHello(answer)
}

// accepts says why two members do not understand each other.
func (h hello) accepts(o hello) error {
	if h.instance == o.instance {
		return errSelf
	}
	if h.label != o.label {
		return &strangerError{"the member there has another cluster label"}
	}
	for _, k := range h.keys {
		for _, other := range o.keys {
			if k == other {
				return nil
			}
		}
	}
	return &strangerError{fmt.Sprintf("the member there uses another cluster key (it has %s, this member %s)", keyIDs(o.keys), keyIDs(h.keys))}
}

// strangerError: a member is of another cluster, which trying again does not
// change.
type strangerError struct{ text string }

func (e *strangerError) Error() string { return e.text }

func keyIDs(keys [][4]byte) string {
	if len(keys) == 0 {
		return "none"
	}
	var out []string
	for _, k := range keys {
		out = append(out, fmt.Sprintf("%x", k))
	}
	return strings.Join(out, ", ")
}

// shortError drops the addresses from a network error: whoever tells it has
// named the peer.
func shortError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		if op.Timeout() {
			return errors.New("no answer in time")
		}
		err = op.Err
	}
	if s := err.Error(); strings.HasPrefix(s, "connect: ") {
		return &shortened{strings.TrimPrefix(s, "connect: "), err}
	}
	return err
}

type shortened struct {
	text string
	err  error
}

func (s *shortened) Error() string { return s.text }
func (s *shortened) Unwrap() error { return s.err }
