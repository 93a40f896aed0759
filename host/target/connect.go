package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/reach"
)

// errUnwanted says that the configuration excludes a node.
var errUnwanted = errors.New("the configuration excludes it")

// dial attaches to the node. name is what the target is called as far as is
// known. Where discovery has guessed the part behind the @ and the node calls
// itself something else, it is attached to under that name, and with that
// name's cookie.
func (m *Manager) dial(ctx context.Context, f Found, name string, cookie dist.Cookie) (*node.Peer, error) {
	route := m.route(f, name)
	o := node.DialOptions{Addr: f.Addr, Cookie: cookie, Dial: route.Dialer(name), TLS: route.TLS != nil}
	if carrier := route.Carrier(); carrier != nil {
		mapper, err := epmd.FromEnv(os.Getenv)
		if err != nil {
			return nil, err
		}
		// The EPMD of the node's machine is asked from where we are carried to:
		// no name is this machine's there.
		o.EPMD = &epmd.Client{Port: mapper.Port, Dial: carrier, Hostname: "-"}
	}
	if f.Guessed {
		o.Rename = func(answered string) (dist.Cookie, error) {
			if !sameAlive(answered, name) {
				return dist.Cookie{}, fmt.Errorf("%s is not %s", answered, name)
			}
			if !m.cfg.Wanted(answered) {
				return dist.Cookie{}, errUnwanted
			}
			return m.cookie(answered)
		}
	}
	return m.cfg.Node.Connect(ctx, name, o)
}

// route is how to reach a node: a sandbox is here.
func (m *Manager) route(f Found, name string) reach.Route {
	if f.Sandbox != "" {
		return reach.Route{}
	}
	return m.cfg.Route(name)
}

// wanted tells whether to attach to a node.
func (m *Manager) wanted(f Found, name string) bool { return f.Sandbox != "" || m.cfg.Wanted(name) }

// cookieOf is the cookie to attach to what was found with.
func (m *Manager) cookieOf(f Found, name string) (dist.Cookie, error) {
	if f.Sandbox == "" {
		return m.cookie(name)
	}
	c, err := m.cfg.SandboxCookie(f.CookieFile)
	if err != nil {
		return c, &CookieError{Node: name, Err: err}
	}
	return c, nil
}

func (m *Manager) cookie(name string) (dist.Cookie, error) {
	c, err := m.cfg.Cookie(name)
	if err != nil {
		return c, &CookieError{Node: name, Err: err}
	}
	return c, nil
}

// sameAlive tells whether two full names agree in the part before the @, which
// EPMD knows and discovery therefore does not guess.
func sameAlive(a, b string) bool {
	x, _, _ := strings.Cut(a, "@")
	y, _, _ := strings.Cut(b, "@")
	return x == y && x != ""
}

// connect makes one attempt.
func (t *target) connect(ctx context.Context) (*node.Peer, Verdict) {
	t.mu.Lock()
	found, name := t.found, t.node
	if !t.dropped.IsZero() { // nothing says that it is there
		t.mu.Unlock()
		return nil, t.last()
	}
	begins := t.state == Discovered
	if begins {
		t.state, t.reason, t.hint, t.since = Connecting, "", "", time.Now()
	}
	t.mu.Unlock()
	if begins {
		t.report()
	}

	addr := found.Addr
	if t.m.route(found, name).SSH != nil {
		addr = "" // an address elsewhere
	}
	if !t.m.wanted(found, name) || t.m.holder(t, name, addr) != nil {
		t.hide(true)
		return nil, Verdict{State: Discovered, Slow: true}
	}
	dialled, free := t.m.reserve(t, name, found.Addr)
	if !free {
		t.hide(true)
		return nil, Verdict{State: Discovered}
	}
	defer dialled()
	t.hide(false)
	actx, done := t.attempting(ctx)
	defer done()
	cookie, err := t.m.cookieOf(found, name)
	if err != nil {
		return nil, Explain(err)
	}
	try := attempt{found: found, cookie: cookie, at: time.Now()}
	if t.refused.holds(try) {
		return nil, t.refused.verdict
	}
	t.refused = attempt{}
	link, err := t.m.dial(actx, found, name, cookie)
	if err != nil {
		t.learn(found, err)
		switch {
		case errors.Is(err, dist.ErrCookie):
			try.verdict = Explain(err)
			t.refused = try
		case errors.Is(err, errUnwanted):
			t.hide(true)
		case errors.Is(actx.Err(), context.Canceled):
			return nil, Verdict{} // given up, for another member or for good
		}
		return nil, Explain(err)
	}
	t.cost.connected(link)
	release, err := t.otpRelease(actx, link)
	if err != nil {
		link.Close()
		return nil, Explain(err)
	}
	if v, old := tooOld(release); old {
		link.Close()
		return nil, v
	}
	t.tickSooner(actx, link)
	if err := t.claim(actx, link); err != nil {
		return nil, Verdict{}
	}
	if o := t.m.settle(t, link, release); o != nil {
		if o.attached() != link {
			link.Close()
		}
		t.hide(true)
		return nil, Verdict{State: Discovered, Slow: true}
	}
	t.report()
	t.pids.resume(t, link)
	t.m.cfg.Publish(events.Event{Type: events.TargetAttached, Node: link.Name(), Member: t.m.cfg.Member, Fields: map[string]string{"otp_release": release}})
	t.m.cfg.Log.WithField("node", link.Name()).WithField("otp_release", release).Info("target attached")
	return link, Verdict{}
}

// settled notes that the target is attached. The Manager's lock is held.
func (t *target) settled(link *node.Peer, release string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restarted = t.restarted || t.creation != 0 && t.creation != link.Creation()
	t.creation = link.Creation()
	t.link, t.node, t.release, t.absent = link, link.Name(), release, time.Time{}
	t.state, t.reason, t.hint, t.since = Attached, "", "", time.Now()
}

// last is the verdict that the target's state shows already.
func (t *target) last() Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Verdict{State: t.state, Reason: t.reason, Hint: t.hint, Slow: true}
}

// learn takes the name that the node gave itself although it refused us.
func (t *target) learn(f Found, err error) {
	var shake *dist.HandshakeError
	if f.Guessed && errors.As(err, &shake) && sameAlive(shake.Answered, f.Node) {
		t.mu.Lock()
		t.node = shake.Answered
		t.mu.Unlock()
	}
}

// attempt is one that a node refused for its cookie. Each such attempt is an
// error in the node's log, so that it is not made again before the cookie or
// what discovery says has changed, or a while has passed.
type attempt struct {
	found  Found
	cookie dist.Cookie
	at     time.Time

	verdict Verdict
}

const refusedFor = 5 * time.Minute

func (a attempt) holds(next attempt) bool {
	return a.found == next.found && a.cookie.Equal(next.cookie) && next.at.Sub(a.at) < refusedFor
}

func (t *target) hide(is bool) {
	t.mu.Lock()
	changed := t.hidden != is || t.elsewhere
	t.hidden, t.elsewhere = is, false
	t.mu.Unlock()
	if changed {
		t.report()
	}
}
