package dist

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The values that zero fields of a Config stand for.
const (
	DefaultTickTime         = 60 * time.Second // net_ticktime
	DefaultHandshakeTimeout = 7 * time.Second  // net_setuptime
	DefaultMaxMessage       = 256 << 20
	DefaultMaxReassembly    = 512 << 20
	DefaultMaxSequences     = 4096
	DefaultQueueBytes       = 4 << 20
	DefaultFragmentSize     = 64 << 10 // that of the emulator
)

// Config is what a connection needs to know of our own node, and its limits.
// It is copied; the zero value of everything but Name is useful.
type Config struct {
	// Name is our full node name, "debughost-1f@host".
	Name string
	// Creation tells this incarnation of Name from earlier ones; EPMD gives it
	// to nodes that register. Pids that we send must carry it.
	Creation uint32

	// Flags are the capabilities that we offer; 0 means DefaultFlags. The
	// mandatory ones are always added, FlagPublished and FlagNameMe never are.
	Flags Flags

	// TickTime is how long the peer may be silent (net_ticktime). We write
	// something at least every quarter of it. It should be the peer's.
	TickTime time.Duration
	// HandshakeTimeout bounds the whole handshake.
	HandshakeTimeout time.Duration
	// WriteTimeout bounds how long the peer may take nothing off the wire
	// while we have something to write; 0 means TickTime.
	WriteTimeout time.Duration

	// MaxMessage bounds one received message in bytes. A larger one that comes
	// in fragments loses its payload, and Payload.Err says so; one that comes
	// as a single packet ends the connection, since that is also what garbage
	// looks like.
	MaxMessage int
	// MaxReassembly bounds the bytes of all half-received messages together,
	// MaxSequences their number. What exceeds them is treated as too large.
	MaxReassembly int
	MaxSequences  int

	// QueueBytes is how much may wait to be written before Send blocks.
	QueueBytes int
	// FragmentSize is the size in bytes from which on a message is sent in
	// pieces of that size, if the peer can take fragments.
	FragmentSize int
}

func (c Config) withDefaults() Config {
	if c.Flags == 0 {
		c.Flags = DefaultFlags
	}
	c.Flags |= mandatory | FlagMandatory25Digest
	c.Flags &^= FlagPublished | FlagNameMe | FlagAtomCache | FlagHiddenAtomCache
	setDefault(&c.TickTime, DefaultTickTime)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.WriteTimeout, c.TickTime)
	setDefault(&c.MaxMessage, DefaultMaxMessage)
	setDefault(&c.MaxReassembly, DefaultMaxReassembly)
	setDefault(&c.MaxSequences, DefaultMaxSequences)
	setDefault(&c.QueueBytes, DefaultQueueBytes)
	setDefault(&c.FragmentSize, DefaultFragmentSize)
	return c
}

func setDefault[T int | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// checkName reports whether name has the form that a node accepts: one "@"
// with something on both sides, at most 255 bytes, characters of Latin-1. It has
// to be printable, too, since it is printed.
func checkName(name string) error {
	user, host, ok := strings.Cut(name, "@")
	if !ok || user == "" || host == "" || strings.Contains(host, "@") || len(name) > 255 || printable(name) != name ||
		strings.ContainsFunc(name, func(r rune) bool { return r > 0xFF }) {
		return fmt.Errorf("node name %q: want name@host, at most 255 bytes", name)
	}
	return nil
}

// printable replaces what a peer must not bring into a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// ConnectOptions are what the dialling side needs beside its Config.
type ConnectOptions struct {
	// Peer is the full name of the node that is dialled; another one that
	// answers is refused, unless Rename says otherwise.
	Peer string
	// Rename is asked when the node gives itself another name than Peer, which
	// happens where only the part before the @ is known (EPMD tells no more).
	// It returns the cookie for that name, or an error to refuse it. It must
	// not block. Nil refuses.
	Rename func(answered string) (Cookie, error)
	// TLS says that nc is TLS. A node then has lengths of four bytes in the
	// handshake, too (inet_tls_dist listens with {packet,4}).
	TLS bool
	// Cookie proves us to the peer, and the peer to us.
	Cookie Cookie
	// KeepOld is asked when the peer says that we are connected already. True
	// gives this attempt up. Nil, or false, goes on: the peer then drops what
	// it has, which is right after a connection of ours broke unnoticed by it.
	KeepOld func() bool
}

// Peer is what the other node said of itself in the handshake.
type Peer struct {
	Name     string
	Creation uint32
	Flags    Flags
	Addr     net.Addr // nil for a net.Conn without one
}

// Status is the answer of the accepting side to the dialling one.
type Status string

// The statuses that Decide chooses from.
const (
	StatusOK             Status = "ok"
	StatusOKSimultaneous Status = "ok_simultaneous" // our own attempt is given up for this one
	StatusNOK            Status = "nok"             // our own attempt goes on, this one ends
	StatusNotAllowed     Status = "not_allowed"
	StatusAlive          Status = "alive" // we have a connection; the peer says whether it is dead
)

// Decision is what to do with a node that connects.
type Decision struct {
	Status Status
	Cookie Cookie
	// Replace is called after StatusAlive, once the peer has said that the old
	// connection is dead and has proven the cookie. It drops the old one and
	// returns when that has ended; an error gives the new connection up.
	Replace func(ctx context.Context) error
}

// AcceptOptions are what the accepting side needs beside its Config.
type AcceptOptions struct {
	// Decide is called once, when the peer has said its name but has not
	// proven it; nil refuses every node. See ResolveSimultaneous for the rule between two attempts.
	Decide func(ctx context.Context, p Peer) (Decision, error)
}

// ResolveSimultaneous is the rule by which two nodes that dial each other at
// once agree on the attempt that survives: the one of the greater name. The
// accepting side answers with it while its own attempt to the peer is under
// way; after StatusOKSimultaneous it abandons that attempt.
func ResolveSimultaneous(local, peer string) Status {
	if local > peer {
		return StatusNOK
	}
	return StatusOKSimultaneous
}
