package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/debughost/debughost/host/events"
	linkpb "github.com/debughost/debughost/host/link/proto"
)

// The pause between attempts to open a stream doubles from the first to the
// second.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// helloTime is what a member may take to answer a hello.
const helloTime = 5 * time.Second

// historyMax is how many events that happened before are taken from a member
// that is new to us.
const historyMax = 256

// peer is our end of the streams to one life of another member.
type peer struct {
	links  *Links
	name   string
	epoch  uint64
	addr   string
	cancel context.CancelFunc
	queue  queue
}

// exchangeForever keeps an Exchange open until ctx ends.
func (p *peer) exchangeForever(ctx context.Context) {
	p.again(ctx, func(worked func()) error {
		err := p.exchange(ctx, worked)
		if ctx.Err() == nil {
			p.links.cfg.Hint(p.name, err)
			p.links.cfg.Log.WithField("member", p.name).WithField("err", err).Debug("stream to member broke")
		}
		return err
	})
}

// again calls f until ctx ends, with growing pauses that begin anew once it has
// worked.
func (p *peer) again(ctx context.Context, f func(worked func()) error) {
	pause := pauseMin
	for ctx.Err() == nil {
		_ = f(func() { pause = pauseMin })
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, pauseMax)
	}
}

// exchange opens a stream and sends what is queued until it breaks. Its error is
// never nil.
func (p *peer) exchange(ctx context.Context, worked func()) error {
	conn, err := p.links.cfg.Conn(p.name)
	if err != nil {
		return fmt.Errorf("exchange with member %s: %w", p.name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := linkpb.NewLinkClient(conn).Exchange(ctx)
	if err != nil {
		return fmt.Errorf("exchange with member %s: %w", p.name, err)
	}
	late := time.AfterFunc(helloTime, func() { cancel(errors.New("it does not answer")) })
	defer late.Stop()
	if err := p.hello(stream); err != nil {
		return fmt.Errorf("exchange with member %s: %w", p.name, errors.Join(err, context.Cause(ctx)))
	}
	late.Stop()
	worked()
	ready := p.queue.start()
	defer p.queue.stop()
	p.links.cfg.Hint(p.name, nil)

	ended := make(chan error, 1)
	go func() { // ends with the stream, which ends with ctx
		_, err := stream.Recv()
		if err == nil {
			err = errors.New("it speaks out of turn")
		}
		ended <- err
		cancel(err)
	}()
	fail := func(err error) error {
		cancel(err)
		return fmt.Errorf("exchange with member %s: %w", p.name, errors.Join(err, <-ended))
	}
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("exchange with member %s: %w", p.name, err)
		case <-ready:
			for _, msg := range p.queue.take() {
				if err := stream.Send(&linkpb.Frame{Part: &linkpb.Frame_Registry{Registry: msg}}); err != nil {
					return fail(err)
				}
				p.links.sent.Add(uint64(len(msg)))
			}
		}
	}
}

func (p *peer) hello(stream grpc.BidiStreamingClient[linkpb.Frame, linkpb.Frame]) error {
	us := &linkpb.Hello{Member: p.links.cfg.Member, Epoch: p.links.cfg.Epoch}
	if err := stream.Send(&linkpb.Frame{Part: &linkpb.Frame_Hello{Hello: us}}); err != nil && !errors.Is(err, io.EOF) {
		return err // with EOF, Recv has the cause
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	switch them := answer.GetHello(); {
	case them.GetMember() != p.name:
		return fmt.Errorf("at %s answers %q", p.addr, them.GetMember())
	case p.epoch != 0 && them.GetEpoch() != p.epoch:
		return fmt.Errorf("at %s answers another life of it", p.addr)
	}
	return nil
}

// eventsForever takes the member's events into our bus until ctx ends.
func (p *peer) eventsForever(ctx context.Context) {
	p.again(ctx, func(worked func()) error { return p.events(ctx, worked) })
}

func (p *peer) events(ctx context.Context, worked func()) error {
	conn, err := p.links.cfg.Conn(p.name)
	if err != nil {
		return err
	}
	stream, err := linkpb.NewLinkClient(conn).WatchEvents(ctx, &linkpb.WatchEventsRequest{
		Member: p.links.cfg.Member, Epoch: p.epoch, After: p.links.lastSeen(p.name, p.epoch), History: historyMax,
	})
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return err
		}
		worked()
		if p.links.see(p.name, e.GetEpoch(), e.GetSeq()) {
			p.links.cfg.Events.Merge(eventOf(p.name, e))
		}
	}
}

func eventOf(member string, e *linkpb.Event) events.Event {
	return events.Event{
		Time: e.GetTime().AsTime(), Type: events.Type(e.GetType()), Member: member, Node: e.GetNode(), Plugin: e.GetPlugin(),
		Topology: e.GetTopology(), Reason: e.GetReason(), Fields: e.GetFields(),
	}
}
