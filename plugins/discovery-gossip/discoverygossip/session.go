package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

const (
	// tick is how often what grows old is looked for.
	tick = time.Second
	// lookAround is how often, in ticks, the interfaces are looked at: a group
	// that was joined at one is forgotten with its addresses.
	lookAround = 5
)

// session is a set of open sockets and what is done with them, until one fails
// or the interfaces are others. What is heard outlives it.
type session struct {
	*Strategy
	board   *board
	refused *refused
	ears    *ears
	addrs   []net.Addr // of this machine
	text    string     // of its interfaces
	hear    func(packet []byte, from netip.AddrPort, now time.Time) error
	hint    string // what may be wrong when nothing that is heard can be taken

	mu      sync.Mutex
	sendErr error
}

// errNothing is the answer of hear to a packet that is nobody's business.
var errNothing = errors.New("of no interest")

// run reads packets and calls serve, which returns when its context ends, and
// chores every tick. It closes ears.
func (s *session) run(ctx context.Context, serve func(context.Context)) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var tasks sync.WaitGroup
	tasks.Go(func() { end(s.read()) })
	tasks.Go(func() { serve(ctx) })
	s.report()
	err := s.chores(ctx)
	end(nil)
	s.ears.close()
	tasks.Wait()
	return err
}

// read takes packets until ears is closed.
func (s *session) read() error {
	b := make([]byte, maxPacket+1)
	for {
		n, from, err := s.ears.read(b)
		if err != nil {
			return fmt.Errorf("read heartbeats: %w", sendCause(err))
		}
		err = errMalformed
		if n <= maxPacket {
			err = s.hear(b[:n], from, time.Now())
		}
		switch {
		case err == nil:
			if s.refused.took() == 1 {
				s.report()
			}
		case !errors.Is(err, errNothing):
			s.refused.add(err, from.String())
		}
	}
}

// chores returns nil when the interfaces are others, and an error when the
// sockets do not work any more.
func (s *session) chores(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-ticker.C:
			s.board.expire(now)
			if text, source := s.refused.due(now); text != "" {
				s.log.Warn("packets refused", "packets", text, "from", source)
			}
			s.report()
			if n%lookAround == 0 {
				if _, _, text, err := nics(); err == nil && text != s.text {
					return nil
				}
			}
		}
	}
}

// sending notes how the last attempt to send went.
func (s *session) sending(err error) {
	s.mu.Lock()
	s.sendErr = err
	s.mu.Unlock()
	s.report()
}

// report brings the answer's error up to date.
func (s *session) report() {
	s.mu.Lock()
	err := s.sendErr
	s.mu.Unlock()
	if why := s.refused.only(); err == nil && why != nil {
		err = sdk.WithHint(fmt.Errorf("no heartbeat that was heard could be taken, the last for it is %w", why), s.hint)
	}
	s.board.fail(err)
}
