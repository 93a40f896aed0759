package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/host/events"
)

// DefaultLabel is the cluster's name where none is configured.
const DefaultLabel = "debughost"

// Config is what a Cluster needs. New copies it.
type Config struct {
	Name    string // unique in the cluster: letters, digits, ".", "_", "-" and "@"; at most 128 bytes
	ID      string // 8 hexadecimal digits of the data directory
	Epoch   uint64 // when this life started, Unix nanoseconds; default now
	Version string // of debughost
	Machine string // equal on members that share a machine

	// Bind is the host:port of gossip (UDP and TCP) and of calls (TCP). Port 0
	// takes a free one. Empty: this member is alone and opens no socket.
	Bind string
	// Advertise is the host:port that others use. Empty: Bind or, where Bind is
	// all addresses, the machine's first that is not loopback.
	Advertise string

	Profile Profile
	Label   string    // the cluster's name: only members of one label see each other; default DefaultLabel
	Join    []string  // host:port of members, asked until one answers
	Keys    *Ring     // required unless alone
	TLS     *TLSFiles // the operator's own PKI for calls; nil: certificates derived from Keys

	Store   Store                // where known members are kept; may be nil
	Publish func(e events.Event) // called by one goroutine at a time; may be nil
	Log     *logrus.Entry        // may be nil
	Network Network              // nil: UDP and TCP
}

// Store keeps small files over a restart. *store.Store is one.
type Store interface {
	// Read returns a file's content; the error is fs.ErrNotExist when there is none.
	Read(name string) ([]byte, error)
	// Write replaces a file whole.
	Write(name string, data []byte) error
}

// Network is what a cluster sends through: UDP and TCP, or in tests one in
// memory. Its methods may be called from any goroutine.
type Network interface {
	// Listen opens addr (host:port) for packets and for streams. Both have the
	// same port, which is a free one where addr asks for port 0.
	Listen(ctx context.Context, addr string) (net.PacketConn, net.Listener, error)
	// Dial opens a stream.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Errors that callers branch on.
var (
	// ErrUnknownMember: there is no member of this name.
	ErrUnknownMember = errors.New("unknown member")
	// ErrMemberGone: the member is dead or has left.
	ErrMemberGone = errors.New("member is gone")
	// ErrMemberRuns: a member that runs cannot be forgotten.
	ErrMemberRuns = errors.New("member is running")
	// ErrNotRunning: the cluster's Run has not begun or has ended.
	ErrNotRunning = errors.New("cluster is not running")
)

// alone reports whether this is a cluster of one without a network.
func (c *Config) alone() bool { return c.Bind == "" }

// complete checks the configuration and fills its defaults.
func (c *Config) complete() error {
	if err := checkName("member name", c.Name, maxName); err != nil {
		return err
	}
	if c.Label == "" {
		c.Label = DefaultLabel
	}
	if err := checkName("cluster label", c.Label, maxLabel); err != nil {
		return err
	}
	if c.Epoch == 0 {
		c.Epoch = uint64(time.Now().UnixNano())
	}
	if c.Profile == "" {
		c.Profile = LAN
	}
	if !slices.Contains(Profiles(), c.Profile) {
		return fmt.Errorf("cluster profile %q: unknown (one of %s)", c.Profile, joinWords(Profiles()))
	}
	if c.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		c.Log = logrus.NewEntry(quiet)
	}
	if c.Network == nil {
		c.Network = realNetwork{}
	}
	c.Join = slices.Clone(c.Join)
	if c.alone() {
		if c.Keys == nil { // for the types' sake: nobody can reach this member
			c.Keys = newRing("", NewKey())
		}
		return nil
	}
	if c.Keys == nil {
		return errors.New("cluster key: none given (make one with debughost keygen)")
	}
	for what, addr := range map[string]string{"bind": c.Bind, "advertise": c.Advertise} {
		if _, _, err := net.SplitHostPort(addr); addr != "" && err != nil {
			return fmt.Errorf("%s address %q: want host:port", what, addr)
		}
	}
	m := c.meta()
	if len(m.append(nil)) > metaMax {
		return fmt.Errorf("member %s: version and machine are too long to be told in %d bytes", c.Name, metaMax)
	}
	return m.check()
}

const (
	maxName  = 128
	maxLabel = 64
)

// checkName accepts what can stand in logs, in certificates and in command
// lines without quoting.
func checkName(what, s string, most int) error {
	if s == "" || len(s) > most {
		return fmt.Errorf("%s %q: want 1 to %d characters", what, s, most)
	}
	for i, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case (r == '.' || r == '_' || r == '-' || r == '@') && i > 0:
		default:
			return fmt.Errorf("%s %q: only letters, digits and, but for the first, . _ - @", what, s)
		}
	}
	return nil
}

func joinWords[S ~string](words []S) string {
	out := ""
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			out += " or "
		case i > 0:
			out += ", "
		}
		out += string(w)
	}
	return out
}

// advertised is the address that others are told, given the one that the
// listener has.
func (c *Config) advertised(ctx context.Context, bound netip.AddrPort) (netip.AddrPort, error) {
	if c.Advertise == "" {
		if !bound.Addr().IsUnspecified() {
			return netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port()), nil
		}
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("find an address to advertise: %w", err)
		}
		return netip.AddrPortFrom(firstUsable(addrs), bound.Port()), nil
	}
	found, err := resolve(ctx, c.Advertise, int(bound.Port()))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("advertise address: %w", err)
	}
	if found[0].Port() == 0 {
		return netip.AddrPortFrom(found[0].Addr(), bound.Port()), nil
	}
	return found[0], nil
}

// firstUsable is the first address that is neither loopback nor link-local,
// IPv4 before IPv6; loopback where there is no other.
func firstUsable(addrs []net.Addr) netip.Addr {
	var six netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if ip := p.Addr().Unmap(); ip.Is4() {
			return ip
		} else if !six.IsValid() {
			six = ip
		}
	}
	if six.IsValid() {
		return six
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
