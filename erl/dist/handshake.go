package dist

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Connect runs the handshake over nc as the side that dialled. It blocks until
// the connection is up, ctx is done or Config.HandshakeTimeout is over. A
// failure is a *HandshakeError, and nc is closed then. No goroutine is left
// behind; the connection starts to live with Run.
func Connect(ctx context.Context, nc net.Conn, cfg Config, opts ConnectOptions) (*Conn, error) {
	cfg = cfg.withDefaults()
	h := &handshake{ctx: ctx, nc: nc, cfg: cfg, peer: opts.Peer, head: 2}
	if opts.TLS {
		h.head = 4
	}
	return h.run(func() (*Conn, error) { return h.connect(opts) })
}

// Accept runs the handshake over nc as the side that was called, otherwise as
// Connect does.
func Accept(ctx context.Context, nc net.Conn, cfg Config, opts AcceptOptions) (*Conn, error) {
	cfg = cfg.withDefaults()
	h := &handshake{ctx: ctx, nc: nc, cfg: cfg, head: 2}
	if a := nc.RemoteAddr(); a != nil {
		h.peer = a.String()
	}
	return h.run(func() (*Conn, error) { return h.accept(opts) })
}

// handshake is one attempt. Its fields stage and status are what an error
// tells.
type handshake struct {
	ctx    context.Context
	nc     net.Conn
	cfg    Config
	peer   string
	stage  Stage
	status Status
	hint   string
	other  string // the name of another node that answered
	head   int    // bytes of a message's length: 2, through TLS 4
	buf    [4 + maxHandshake]byte
}

func (h *handshake) run(side func() (*Conn, error)) (*Conn, error) {
	h.stage = StageName
	if err := checkName(h.cfg.Name); err != nil {
		h.nc.Close()
		return nil, h.wrap(err)
	}
	h.nc.SetDeadline(time.Now().Add(h.cfg.HandshakeTimeout))
	stop := context.AfterFunc(h.ctx, func() { h.nc.SetDeadline(time.Unix(1, 0)) })
	c, err := side()
	if !stop() && err == nil {
		err = context.Cause(h.ctx)
	}
	if err != nil {
		h.nc.Close()
		return nil, h.wrap(err)
	}
	h.nc.SetDeadline(time.Time{})
	return c, nil
}

func (h *handshake) connect(opts ConnectOptions) (*Conn, error) {
	if opts.Cookie.IsZero() {
		h.hint = "no cookie is configured for this node"
		return nil, ErrCookie
	}
	us := nameMsg{flags: h.cfg.Flags, creation: h.cfg.Creation, name: h.cfg.Name}
	if err := h.send(StageName, appendName(h.msg(), us)); err != nil {
		return nil, err
	}
	if err := h.readStatus(opts.KeepOld); err != nil {
		return nil, err
	}
	b, err := h.recv(StageChallenge)
	if err != nil {
		return nil, err
	}
	them, err := parseChallenge(b)
	if err != nil {
		return nil, err
	}
	cookie := opts.Cookie
	if them.name != opts.Peer {
		if cookie, err = h.rename(opts, them.name); err != nil {
			return nil, err
		}
	}
	if err := h.checkFlags(them.flags); err != nil {
		return nil, err
	}
	challenge := newChallenge()
	if err := h.send(StageReply, appendReply(h.msg(), challenge, cookie.digest(them.challenge))); err != nil {
		return nil, err
	}
	b, err = h.recv(StageAck)
	if err != nil {
		if isClosed(err) {
			h.hint = "the peer closed the connection when it saw the proof of our cookie"
			return nil, ErrCookie
		}
		return nil, err
	}
	sum, err := parseAck(b)
	if err != nil {
		return nil, err
	}
	if !cookie.proves(challenge, sum) {
		h.hint = "the peer took our cookie but uses another one towards us"
		return nil, ErrCookie
	}
	return h.finish(them), nil
}

// rename decides on a node that gives itself another name than the one that was
// dialled.
func (h *handshake) rename(opts ConnectOptions, name string) (Cookie, error) {
	h.hint, h.other = fmt.Sprintf("the node behind this address calls itself %q", name), printable(name)
	if opts.Rename == nil || checkName(name) != nil {
		return Cookie{}, ErrNameMismatch
	}
	cookie, err := opts.Rename(name)
	if err != nil {
		return Cookie{}, fmt.Errorf("%w: %w", ErrNameMismatch, err)
	}
	h.peer, h.hint = name, ""
	if cookie.IsZero() {
		h.hint = "no cookie is configured for this node"
		return Cookie{}, ErrCookie
	}
	return cookie, nil
}

// readStatus handles the answer to our name.
func (h *handshake) readStatus(keepOld func() bool) error {
	b, err := h.recv(StageStatus)
	if err != nil {
		if isClosed(err) {
			h.hint = "the peer closed the connection without a word: is this the port of an Erlang node, and one without TLS?"
		}
		return err
	}
	if h.status, err = parseStatus(b); err != nil {
		return err
	}
	switch h.status {
	case StatusOK, StatusOKSimultaneous:
		return nil
	case StatusNOK:
		return ErrSimultaneous
	case StatusNotAllowed:
		h.hint = "the node restricts who may connect (net_kernel:allow), or demands a capability that we lack"
		return ErrNotAllowed
	case StatusAlive:
		if keepOld != nil && keepOld() {
			h.send(StageStatus, appendStatus(h.msg(), "false")) // best effort: we leave anyway
			return ErrAlive
		}
		return h.send(StageStatus, appendStatus(h.msg(), "true"))
	}
	h.status = Status(printable(string(h.status[:min(len(h.status), 32)])))
	return fmt.Errorf("%w: unknown status", ErrProtocol)
}

func (h *handshake) accept(opts AcceptOptions) (*Conn, error) {
	b, err := h.recv(StageName)
	if err != nil {
		return nil, err
	}
	them, err := parseName(b)
	if err != nil {
		return nil, err
	}
	if them.flags.has(FlagNameMe) {
		h.hint = "the peer has no name and asks for one"
		return nil, h.refuse(StatusNotAllowed, ErrNotAllowed)
	}
	if err := checkName(them.name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	h.peer = them.name
	if err := h.checkFlags(them.flags); err != nil {
		return nil, h.refuse(StatusNotAllowed, err)
	}
	if opts.Decide == nil {
		return nil, h.refuse(StatusNotAllowed, ErrNotAllowed)
	}
	d, err := opts.Decide(h.ctx, h.peerOf(them))
	if err != nil {
		return nil, h.refuse(StatusNotAllowed, err)
	}
	switch d.Status {
	case StatusOK, StatusOKSimultaneous, StatusAlive:
	case StatusNOK:
		return nil, h.refuse(d.Status, ErrSimultaneous)
	default:
		return nil, h.refuse(StatusNotAllowed, ErrNotAllowed)
	}
	if err := h.send(StageStatus, appendStatus(h.msg(), d.Status)); err != nil {
		return nil, err
	}
	h.status = d.Status
	if d.Status == StatusAlive {
		if err := h.readAlive(); err != nil {
			return nil, err
		}
	}
	challenge := newChallenge()
	us := nameMsg{flags: h.cfg.Flags, challenge: challenge, creation: h.cfg.Creation, name: h.cfg.Name}
	if err := h.send(StageChallenge, appendChallenge(h.msg(), us)); err != nil {
		return nil, err
	}
	if b, err = h.recv(StageReply); err != nil {
		return nil, err
	}
	theirs, sum, err := parseReply(b)
	if err != nil {
		return nil, err
	}
	if !d.Cookie.proves(challenge, sum) {
		return nil, ErrCookie
	}
	if d.Status == StatusAlive && d.Replace != nil {
		if err := d.Replace(h.ctx); err != nil {
			return nil, err
		}
	}
	if err := h.send(StageAck, appendAck(h.msg(), d.Cookie.digest(theirs))); err != nil {
		return nil, err
	}
	return h.finish(them), nil
}

// readAlive reads the answer to StatusAlive.
func (h *handshake) readAlive() error {
	b, err := h.recv(StageStatus)
	if err != nil {
		return err
	}
	answer, err := parseStatus(b)
	switch {
	case err != nil:
		return err
	case answer == "true":
		return nil
	case answer == "false":
		return ErrAlive
	}
	return fmt.Errorf("%w: %q in answer to status alive", ErrProtocol, answer)
}

// refuse tells the peer why and returns err.
func (h *handshake) refuse(s Status, err error) error {
	stage := h.stage
	h.send(StageStatus, appendStatus(h.msg(), s)) // best effort: we leave anyway
	h.stage, h.status = stage, s
	return err
}

func (h *handshake) checkFlags(theirs Flags) error {
	if missing := mandatory &^ theirs.expand(); missing != 0 {
		h.hint = fmt.Sprintf("OTP 25 or later is needed; missing: %v", missing)
		return ErrTooOld
	}
	return nil
}

func (h *handshake) peerOf(them nameMsg) Peer {
	return Peer{Name: them.name, Creation: them.creation, Flags: them.flags.expand(), Addr: h.nc.RemoteAddr()}
}

func (h *handshake) finish(them nameMsg) *Conn {
	return newConn(h.nc, h.cfg, h.peerOf(them))
}

// msg returns the buffer that an outgoing message is appended to; its first
// two bytes are the length.
func (h *handshake) msg() []byte { return h.buf[:h.head] }

// send writes a message that was built on msg().
func (h *handshake) send(s Stage, b []byte) error {
	h.stage = s
	n := len(b) - h.head // below 64 kB: all of it is bounded
	binary.BigEndian.PutUint16(b[h.head-2:], uint16(n))
	clear(b[:h.head-2])
	_, err := h.nc.Write(b)
	return err
}

// How a TLS record begins that is an alert: its type, and the upper half of the
// version, the same in all versions of TLS (RFC 8446, 5.1).
const (
	tlsAlert = 21
	tlsMajor = 3
)

// recv reads one message. It is valid until the next msg or recv. Not a byte
// beyond it is read: the packets of the connection have another framing.
func (h *handshake) recv(s Stage) ([]byte, error) {
	h.stage = s
	if _, err := io.ReadFull(h.nc, h.buf[:h.head]); err != nil {
		return nil, err
	}
	var n uint64
	for _, c := range h.buf[:h.head] {
		n = n<<8 | uint64(c)
	}
	switch {
	case h.head == 2 && h.buf[0] == tlsAlert && h.buf[1] == tlsMajor:
		return nil, ErrTLS
	case n > maxHandshake:
		return nil, fmt.Errorf("%w: handshake message of %d bytes", ErrProtocol, n)
	}
	b := h.buf[h.head : h.head+int(n)]
	if _, err := io.ReadFull(h.nc, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// wrap makes the error that Connect and Accept return.
func (h *handshake) wrap(err error) error {
	e := &HandshakeError{Peer: h.peer, Stage: h.stage, Status: string(h.status), Cause: err, Hint: h.hint, Answered: h.other}
	switch {
	case h.ctx.Err() != nil:
		e.Cause = context.Cause(h.ctx)
		if errors.Is(e.Cause, context.DeadlineExceeded) {
			e.Cause = fmt.Errorf("%w: %w", ErrHandshakeTimeout, e.Cause)
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Cause = ErrHandshakeTimeout
		if h.status == StatusAlive && h.stage == StageChallenge {
			// Up to OTP 27 a node waits here.
			e.Hint = "the node waits for the end of an earlier connection of ours, which it notices within its net_ticktime"
		}
	case isClosed(err):
		e.Cause = fmt.Errorf("%w: %w", ErrPeerClosed, err)
	}
	return e
}

// isClosed reports whether err says that the peer closed the stream, in order
// or by a reset.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

func newChallenge() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}
