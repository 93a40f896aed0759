package erltest

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
)

// FakeConn is a fake peer's end of one connection. Its handshake is written
// apart from the one of the distribution package, so that the two check each
// other.
type FakeConn struct {
	net.Conn
	Name   string // our full name
	Cookie string

	PeerName  string // the other side's, after a handshake step
	PeerFlags uint64
}

// mandatoryFlags are the capabilities without which OTP 25 to 29 refuse:
// EXTENDED_REFERENCES, FUN_TAGS, NEW_FUN_TAGS, EXTENDED_PIDS_PORTS,
// EXPORT_PTR_TAG, BIT_BINARIES, NEW_FLOATS, UTF8_ATOMS, MAP_TAG, BIG_CREATION,
// HANDSHAKE_23, UNLINK_ID, V4_NC; and SPAWN, ALIAS, MONITOR and MONITOR_NAME
// on top.
const mandatoryFlags = 0x4 | 0x10 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x20000 | 0x40000 |
	1<<24 | 1<<25 | 1<<34 |
	1<<32 | 1<<35 | 0x8 | 0x20

func (c *FakeConn) run(script []Step) error {
	defer c.Close()
	for _, step := range script {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

// ReadHandshake reads one message of the handshake, which has a length of two
// bytes.
func (c *FakeConn) ReadHandshake() ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

// WriteHandshake writes one message of the handshake.
func (c *FakeConn) WriteHandshake(b []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// ReadFrame reads one message of a connection that is up, which has a length
// of four bytes; a tick is empty.
func (c *FakeConn) ReadFrame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("read frame: %d bytes are too many", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, err
}

// WriteFrame writes one message of a connection that is up; nothing is a tick.
func (c *FakeConn) WriteFrame(b []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// Send writes bytes as they are.
func Send(b ...byte) Step {
	return func(c *FakeConn) error { _, err := c.Write(b); return err }
}

// SendHandshake writes one message of the handshake.
func SendHandshake(b ...byte) Step {
	return func(c *FakeConn) error { return c.WriteHandshake(b) }
}

// SendFrame writes one message of a connection that is up.
func SendFrame(b ...byte) Step {
	return func(c *FakeConn) error { return c.WriteFrame(b) }
}

// Garbage writes n random bytes.
func Garbage(n int) Step {
	return func(c *FakeConn) error {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		_, err := c.Write(b)
		return err
	}
}

// HugeFrame announces a message of the given size and sends nothing of it.
func HugeFrame(size uint32) Step {
	return func(c *FakeConn) error { return binary.Write(c, binary.BigEndian, size) }
}

// HalfFrame announces a message of the given size and sends only its first
// bytes.
func HalfFrame(size uint32, b ...byte) Step {
	return func(c *FakeConn) error {
		_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, size), b...))
		return err
	}
}

// Expect reads one message of the handshake and throws it away.
func Expect() Step {
	return func(c *FakeConn) error { _, err := c.ReadHandshake(); return err }
}

// Silence says nothing more, reads on, and returns when the other side closes.
func Silence() Step {
	return func(c *FakeConn) error { _, err := io.Copy(io.Discard, c); return err }
}

// Deaf says nothing and reads nothing until stop closes.
func Deaf(stop <-chan struct{}) Step {
	return func(*FakeConn) error { <-stop; return nil }
}

// digest answers a challenge.
func digest(cookie string, challenge uint32) []byte {
	sum := md5.Sum([]byte(cookie + strconv.FormatUint(uint64(challenge), 10)))
	return sum[:]
}

// errHandshake is returned by the handshake steps on anything unexpected.
var errHandshake = errors.New("unexpected handshake message")

// AsAcceptor does the handshake, version 6, of the side that is called.
func AsAcceptor() Step {
	return func(c *FakeConn) error {
		b, err := c.ReadHandshake()
		if err != nil {
			return err
		}
		if len(b) < 15 || b[0] != 'N' {
			return fmt.Errorf("read name: %w: %q", errHandshake, b)
		}
		c.PeerFlags, c.PeerName = binary.BigEndian.Uint64(b[1:]), string(b[15:])
		if err := c.WriteHandshake([]byte("sok")); err != nil {
			return err
		}
		ours := rand.Uint32()
		if err := c.WriteHandshake(c.nameMessage(&ours)); err != nil {
			return err
		}
		if b, err = c.ReadHandshake(); err != nil {
			return err
		}
		if len(b) != 21 || b[0] != 'r' || string(b[5:]) != string(digest(c.Cookie, ours)) {
			return fmt.Errorf("read challenge reply: %w: %q", errHandshake, b)
		}
		return c.WriteHandshake(append([]byte{'a'}, digest(c.Cookie, binary.BigEndian.Uint32(b[1:]))...))
	}
}

// AsDialer does the handshake, version 6, of the side that calls.
func AsDialer() Step {
	return func(c *FakeConn) error {
		if err := c.WriteHandshake(c.nameMessage(nil)); err != nil {
			return err
		}
		b, err := c.ReadHandshake()
		if err != nil {
			return err
		}
		switch string(b) {
		case "sok", "sok_simultaneous":
		case "salive": // an earlier connection of ours is dead
			if err := c.WriteHandshake([]byte("strue")); err != nil {
				return err
			}
		default:
			return fmt.Errorf("read status: %w: %q", errHandshake, b)
		}
		if b, err = c.ReadHandshake(); err != nil {
			return err
		}
		if len(b) < 19 || b[0] != 'N' {
			return fmt.Errorf("read challenge: %w: %q", errHandshake, b)
		}
		c.PeerFlags, c.PeerName = binary.BigEndian.Uint64(b[1:]), string(b[19:])
		ours := rand.Uint32()
		reply := binary.BigEndian.AppendUint32([]byte{'r'}, ours)
		if err := c.WriteHandshake(append(reply, digest(c.Cookie, binary.BigEndian.Uint32(b[9:]))...)); err != nil {
			return err
		}
		if b, err = c.ReadHandshake(); err != nil {
			return err
		}
		if len(b) != 17 || b[0] != 'a' || string(b[1:]) != string(digest(c.Cookie, ours)) {
			return fmt.Errorf("read challenge ack: %w: %q", errHandshake, b)
		}
		return nil
	}
}

// nameMessage is send_name, and with a challenge recv_challenge: 'N', flags,
// the challenge, creation, name.
func (c *FakeConn) nameMessage(challenge *uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'N'}, mandatoryFlags)
	if challenge != nil {
		b = binary.BigEndian.AppendUint32(b, *challenge)
	}
	b = binary.BigEndian.AppendUint32(b, 7)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Name)))
	return append(b, c.Name...)
}
