package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport carries memberlist's packets and streams over one port that it
// shares with calls (peeker).
type transport struct {
	network     Network
	packets     net.PacketConn
	peeker      *peeker
	advertised  netip.AddrPort
	dialTimeout time.Duration

	received chan *memberlist.Packet
	ctx      context.Context // ends with Shutdown
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// maxPacket is the largest that is read; memberlist sends 1400 bytes.
const maxPacket = 64 << 10

// start begins to read packets and to accept streams.
func (t *transport) start() {
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.received = make(chan *memberlist.Packet, 64)
	t.peeker.gossip = make(chan net.Conn)
	t.wg.Go(t.read)
	t.wg.Go(func() { t.peeker.run(t.ctx) })
}

func (t *transport) read() {
	buf := make([]byte, maxPacket)
	var pause time.Duration
	for t.ctx.Err() == nil {
		n, from, err := t.packets.ReadFrom(buf)
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-t.ctx.Done():
			}
			continue
		}
		pause = 0
		if n == 0 {
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.received <- p:
		case <-t.ctx.Done():
		}
	}
}

// FinalAdvertiseAddr tells the address that Run has chosen.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertised.Addr().AsSlice(), int(t.advertised.Port()), nil
}

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	if t.ctx.Err() != nil {
		return time.Time{}, errShutdown
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

var errShutdown = errors.New("send: this member's gossip has ended")

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh has the packets received.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.received }

// DialTimeout opens a stream.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, min(timeout, t.dialTimeout))
	defer cancel()
	conn, err := t.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if s := t.peeker.track(conn); s != nil {
		return s, nil
	}
	_ = conn.Close()
	return nil, errors.New("dial: too many gossip streams, or gossip has ended")
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// StreamCh has the streams received.
func (t *transport) StreamCh() <-chan net.Conn { return t.peeker.gossip }

// Shutdown closes the port and all gossip streams, and returns when nothing of
// the transport runs any more.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.packets.Close(), t.peeker.listener.Close())
	t.peeker.close()
	t.wg.Wait()
	return err
}
