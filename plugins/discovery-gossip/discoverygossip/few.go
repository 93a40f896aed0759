package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// few is the mouth to a list of peers, and to those who were heard: of two
// members it is enough that one lists the other.
type few struct {
	conn   *net.UDPConn
	peers  []string // host:port
	expiry time.Duration
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	known []netip.AddrPort // of the peers
	from  map[netip.AddrPort]time.Time
	err   error // of the lookups
}

const (
	// lookupEvery is how often the peers' names are looked up.
	lookupEvery = 30 * time.Second
	// lookupAgain is after one could not be.
	lookupAgain = 2 * time.Second
)

func newFew(conn *net.UDPConn, c Config) *few {
	f := &few{conn: conn, expiry: c.Expiry, from: map[netip.AddrPort]time.Time{}}
	f.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	for _, p := range c.Peers {
		f.peers = append(f.peers, withPort(p, c.port(membersPort)))
	}
	return f
}

// serve looks names up while speak runs, which begins when that was done once.
func (f *few) serve(ctx context.Context, speak func(context.Context)) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	f.resolve(ctx)
	tasks.Go(func() {
		for {
			pause := lookupEvery
			if f.lookupErr() != nil {
				pause = lookupAgain
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
				f.resolve(ctx)
			}
		}
	})
	speak(ctx)
}

// resolve brings the peers' addresses up to date. Those whose name cannot be
// looked up keep what they had.
func (f *few) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupAgain)
	defer cancel()
	var known []netip.AddrPort
	var failed error
	for _, p := range f.peers {
		host, port, _ := net.SplitHostPort(p) // the config was checked
		at, err := netip.ParseAddrPort(p)
		if err == nil {
			known = append(known, at)
			continue
		}
		addrs, err := f.lookup(ctx, host)
		if err != nil {
			if failed == nil {
				failed = sdk.WithHint(fmt.Errorf("look up peer %s: %w", host, lookupCause(err)), "is the name right, and does DNS know it?")
			}
			continue
		}
		for _, a := range addrs {
			if at, err := netip.ParseAddrPort(net.JoinHostPort(a.Unmap().String(), port)); err == nil {
				known = append(known, at)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if failed != nil {
		known = append(known, f.known...)
	}
	slices.SortFunc(known, netip.AddrPort.Compare)
	f.known, f.err = slices.Compact(known), failed
}

func (f *few) lookupErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// lookupCause leaves out what changes from one attempt to the next.
func lookupCause(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return errors.New(dns.Err)
	}
	return err
}

// heard implements mouth.
func (f *few) heard(from netip.AddrPort, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.from[from]; ok || len(f.from) < maxHeard {
		f.from[from] = now
	}
}

// say implements mouth.
func (f *few) say(b []byte) error {
	f.mu.Lock()
	to := slices.Clone(f.known)
	for from, at := range f.from {
		if time.Since(at) >= f.expiry {
			delete(f.from, from)
		} else if !slices.Contains(f.known, from) {
			to = append(to, from)
		}
	}
	err := f.err
	f.mu.Unlock()
	for _, at := range to {
		if sendErr := f.reply(b, at); sendErr != nil && err == nil {
			err = sendErr
		}
	}
	return err
}

// reply implements mouth.
func (f *few) reply(b []byte, to netip.AddrPort) error {
	if _, err := f.conn.WriteToUDPAddrPort(b, to); err != nil {
		return fmt.Errorf("send to %s: %w", to, sendCause(err))
	}
	return nil
}
