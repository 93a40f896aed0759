package epmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultPort is where EPMD listens unless ERL_EPMD_PORT says otherwise.
const DefaultPort = 4369

// DefaultTimeout bounds an exchange with EPMD beside its context.
const DefaultTimeout = 5 * time.Second

// What callers branch on, with errors.Is. Errors of the network and of ctx are
// wrapped as they are.
var (
	// ErrNotRegistered means that EPMD answered and does not know the name.
	ErrNotRegistered = errors.New("name is not registered")
	// ErrNameTaken means that EPMD refused to register a name, since a node of
	// that name is alive or the name is not valid.
	ErrNameTaken = errors.New("name is taken or not valid")
	// ErrProtocol means that the answer is not one of EPMD: another service
	// listens there, or the answer was cut off.
	ErrProtocol = errors.New("not an answer of EPMD")
)

// Client asks EPMD. The zero value asks at port 4369, and for this machine at
// its loopback addresses. It has no state: its methods may be called
// concurrently, and each opens a connection of its own.
type Client struct {
	// Port is EPMD's port on all hosts; 0 means DefaultPort.
	Port int
	// Local are addresses, without port, at which this machine's EPMD is tried
	// when it does not answer at the loopback ones.
	Local []string
	// Timeout bounds one exchange; 0 means DefaultTimeout.
	Timeout time.Duration
	// Dial opens a connection; nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Hostname is this machine's name; "" means os.Hostname.
	Hostname string
}

// FromEnv returns a client for the variables that OTP knows, which getenv
// (os.Getenv) reads. ERL_EPMD_PORT is EPMD's port everywhere. ERL_EPMD_ADDRESS
// lists, with commas, the addresses that this machine's EPMD listens at beside
// the loopback ones.
func FromEnv(getenv func(string) string) (*Client, error) {
	c := &Client{}
	if s := getenv("ERL_EPMD_PORT"); s != "" {
		port, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || port < 1 || port > 65535 {
			return nil, fmt.Errorf("read ERL_EPMD_PORT: %q is not a port", s)
		}
		c.Port = port
	}
	for _, s := range strings.Split(getenv("ERL_EPMD_ADDRESS"), ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, fmt.Errorf("read ERL_EPMD_ADDRESS: %q is not an address", s)
		}
		if !ip.IsUnspecified() { // listening everywhere includes loopback
			c.Local = append(c.Local, s)
		}
	}
	return c, nil
}

// hosts returns the addresses at which the EPMD of host is tried, in order.
// This machine is "", "localhost", or its host name with or without domain: its
// EPMD always listens at loopback, also where that name resolves to an address
// at which it does not.
func (c *Client) hosts(host string) []string {
	if !c.isLocal(host) {
		return []string{host}
	}
	list := append([]string{"127.0.0.1", "::1"}, c.Local...)
	if host != "" && !strings.EqualFold(host, "localhost") {
		list = append(list, host)
	}
	return list
}

func (c *Client) isLocal(host string) bool {
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	name := c.Hostname
	if name == "" {
		name, _ = os.Hostname()
	}
	short, _, _ := strings.Cut(name, ".")
	return strings.EqualFold(host, name) || strings.EqualFold(host, short)
}

// connect opens a connection to the EPMD of host, with a deadline for the
// exchange, which also ends when ctx is done; release lifts both.
func (c *Client) connect(ctx context.Context, host string) (nc net.Conn, release func(), err error) {
	timeout, port, dial := c.Timeout, c.Port, c.Dial
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if port == 0 {
		port = DefaultPort
	}
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	deadline := time.Now().Add(timeout)
	dctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var first error
	for _, h := range c.hosts(host) {
		nc, err = dial(dctx, "tcp", net.JoinHostPort(h, strconv.Itoa(port)))
		if err == nil {
			break
		}
		if first == nil {
			first = err
		}
		if dctx.Err() != nil {
			break
		}
	}
	if nc == nil {
		if errors.Is(first, syscall.ECONNREFUSED) {
			first = fmt.Errorf("%w (is epmd running there?)", first)
		}
		return nil, nil, first
	}
	nc.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	return nc, func() { stop() }, nil
}

// cause prefers the reason of ctx over the timeout that it made of a read.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
