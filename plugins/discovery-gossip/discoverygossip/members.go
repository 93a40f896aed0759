package discoverygossip

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

const (
	// answerGap is the time between two answers to all: one answers everybody
	// who said hello meanwhile.
	answerGap = 50 * time.Millisecond
	// enoughAnswers is how many members answer a hello, on average, however
	// many there are: it finds the rest by them, or hears them in time.
	enoughAnswers = 16
	// maxWaiting bounds the answers that are due.
	maxWaiting = 64
)

// gossiper is a session among members.
type gossiper struct {
	*session
	self    sdk.Self
	cluster [clusterSize]byte
	mouth   mouth
	waiting chan netip.AddrPort // who said hello; full: it says so again
	toMany  bool
}

// gossip sends heartbeats and hears those of others, until ctx ends.
func (s *Strategy) gossip(ctx context.Context, self sdk.Self) error {
	g := &gossiper{
		session: &session{Strategy: s, board: s.members, refused: &s.membersRefused, hint: "do all members have the same cluster key and the same time?"},
		self:    self, cluster: clusterOf(self.Cluster), waiting: make(chan netip.AddrPort, maxWaiting),
	}
	g.hear = g.hearMember
	list, addrs, text, err := nics()
	if err != nil {
		return err
	}
	g.addrs, g.text = addrs, text
	serve := g.speak
	if len(s.config.Peers) > 0 {
		conn, err := listenOne(ctx, net.JoinHostPort(s.config.IfAddr, strconv.Itoa(int(s.config.port(membersPort)))))
		if err != nil {
			return err
		}
		few := newFew(conn, s.config)
		g.ears, g.mouth = &ears{conn}, few
		serve = func(ctx context.Context) { few.serve(ctx, g.speak) }
	} else {
		to := s.config.to(membersPort)
		at, err := choose(list, s.config.wantedIf(), to)
		if err != nil {
			return err
		}
		if s.config.wantedIf() != "" {
			list = at
		}
		many, err := speakToMany(ctx, to, at, s.config.MulticastTTL)
		if err != nil {
			return err
		}
		defer many.close()
		if g.ears, err = listenMany(ctx, to, list); err != nil {
			return err
		}
		g.mouth, g.toMany = many, true
	}
	s.members.settle()
	return g.run(ctx, serve)
}

// hearMember takes a packet. Only the session's reader calls it.
func (g *gossiper) hearMember(packet []byte, from netip.AddrPort, now time.Time) error {
	h, err := parseHeartbeat(packet)
	switch {
	case err != nil:
		return err
	case h.cluster != g.cluster:
		g.others.Do(func() { g.log.Info("members of another cluster are heard", "from", from.String()) })
		return errNothing
	case h.member == g.self.Member && h.addr == g.self.Addr:
		return errNothing // our own
	case !h.provenBy(g.self.Secrets):
		return errForged
	}
	if err := g.replays.admit(h, now); err != nil {
		return err
	}
	g.mouth.heard(from, now)
	addr := listing.Reach(h.addr, from.Addr().String(), listing.Here(from.Addr(), g.addrs))
	news := false
	if listing.Wanted(g.config.Include, g.config.Exclude, h.member) {
		var full bool
		if news, full = g.board.note(sdk.Node{Name: h.member, Addr: addr, Role: sdk.RoleMember}, h.incarnation, now); full {
			return errTooMany
		}
	}
	if (h.hello || news) && !h.answer {
		select {
		case g.waiting <- from:
		default:
		}
	}
	return nil
}

// speak sends heartbeats, and answers those who are new, until ctx ends.
func (g *gossiper) speak(ctx context.Context) {
	if g.self.Addr == "" {
		<-ctx.Done() // there is nothing to say yet
		return
	}
	beats := &beats{interval: g.config.Interval, random: rand.Float64}
	next := time.NewTimer(0)
	defer next.Stop()
	answer := time.NewTimer(time.Hour)
	answer.Stop()
	defer answer.Stop()
	var due bool // answer runs
	var answered time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-next.C:
			g.sending(g.mouth.say(g.packet(now, beats.hello(), false)))
			next.Reset(beats.next(now))
		case from := <-g.waiting:
			switch n := g.board.size(); {
			case !g.toMany:
				_ = g.mouth.reply(g.packet(time.Now(), false, true), from)
			case due, n > enoughAnswers && rand.IntN(n) >= enoughAnswers:
			default:
				due = true
				answer.Reset(max(answerGap-time.Since(answered), 0))
			}
		case now := <-answer.C:
			due, answered = false, now
			g.sending(g.mouth.say(g.packet(now, false, true)))
		}
	}
}

// packet is a heartbeat of this member. Each has a later time than the one
// before, whatever the clock does.
func (g *gossiper) packet(now time.Time, hello, answer bool) []byte {
	at := max(now.UnixNano(), g.sent.Load()+1)
	g.sent.Store(at)
	h := heartbeat{
		cluster: g.cluster, incarnation: g.self.Incarnation, time: at,
		hello: hello, answer: answer, member: g.self.Member, addr: g.self.Addr,
	}
	return h.append(nil, g.self.Secrets[0])
}

// beats says when to send: at once, soon and later with a hello, since packets
// are lost; then at a random moment of each interval, so that members that were
// started at once do not go on at once.
type beats struct {
	interval time.Duration
	random   func() float64 // in [0, 1)
	n        int            // packets so far
	end      time.Time      // of the interval whose packet was sent
}

var hellos = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1500 * time.Millisecond}

// hello tells whether the packet that is due is one.
func (b *beats) hello() bool { return b.n <= len(hellos) }

// next is the time until the next packet, when one was sent now.
func (b *beats) next(now time.Time) time.Duration {
	b.n++
	if b.n <= len(hellos) {
		return time.Duration((0.5 + b.random()) * float64(hellos[b.n-1]))
	}
	if b.end.IsZero() || now.Sub(b.end) > b.interval {
		b.end = now // the first one, or the machine slept
	}
	at := b.end.Add(time.Duration(b.random() * float64(b.interval)))
	b.end = b.end.Add(b.interval)
	return at.Sub(now)
}
