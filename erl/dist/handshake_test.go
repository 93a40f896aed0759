package dist

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	us    = "debughost@here"
	them  = "shop@there"
	spell = "abracadabra"
)

// far is the other end of a connection, for scripts that play a node.
type far struct {
	t  *testing.T
	nc net.Conn
}

func (f far) say(b []byte) {
	f.nc.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
}

func (f far) hear() []byte {
	var head [2]byte
	if _, err := io.ReadFull(f.nc, head[:]); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(f.nc, b); err != nil {
		return nil
	}
	return b
}

func (f far) status(s string) { f.say([]byte("s" + s)) }

// challenge sends theirs and returns our reply.
func (f far) challenge(m nameMsg) (uint32, []byte) {
	f.say(append(appendChallenge(nil, m), "and more of later releases"...))
	challenge, sum, err := parseReply(f.hear())
	if err != nil {
		f.t.Errorf("reply: %v", err)
	}
	return challenge, sum
}

var theirChallenge = nameMsg{flags: DefaultFlags, challenge: 42, creation: 99, name: them}

// scripted runs a script at the far end of a pipe, and waits for its end.
func scripted(t *testing.T, script func(f far)) net.Conn {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		script(far{t, b})
	}()
	t.Cleanup(func() {
		a.Close()
		b.Close()
		<-done
	})
	return a
}

func TestConnect(t *testing.T) {
	type result struct {
		cause  error
		stage  Stage
		status string
		hint   string
	}
	good := func(f far) {
		challenge, sum := f.challenge(theirChallenge)
		assert.True(t, NewCookie(spell).proves(42, sum))
		f.say(appendAck(nil, NewCookie(spell).digest(challenge)))
	}
	tests := []struct {
		name   string
		script func(f far) // after our name
		keep   func() bool
		want   result
	}{
		{"ok", func(f far) { f.status("ok"); good(f) }, nil, result{}},
		{"ok_simultaneous", func(f far) { f.status("ok_simultaneous"); good(f) }, nil, result{}},
		{"alive, go on", func(f far) {
			f.status("alive")
			assert.Equal(t, "strue", string(f.hear()))
			good(f)
		}, nil, result{}},
		{"alive, keep the old one", func(f far) {
			f.status("alive")
			assert.Equal(t, "sfalse", string(f.hear()))
		}, func() bool { return true }, result{ErrAlive, StageStatus, "alive", ""}},
		{"only the digest flag", func(f far) {
			f.status("ok")
			m := theirChallenge
			m.flags = FlagMandatory25Digest | FlagV4NC | FlagUnlinkID
			challenge, _ := f.challenge(m)
			f.say(appendAck(nil, NewCookie(spell).digest(challenge)))
		}, nil, result{}},
		{"nok", func(f far) { f.status("nok") }, nil, result{ErrSimultaneous, StageStatus, "nok", ""}},
		{"not allowed", func(f far) { f.status("not_allowed") }, nil, result{ErrNotAllowed, StageStatus, "not_allowed", "net_kernel:allow"}},
		{"unknown status", func(f far) { f.status(strings.Repeat("what", 99)) }, nil, result{ErrProtocol, StageStatus, "what", ""}},
		{"status with an escape", func(f far) { f.status("\x1b[2J\xff") }, nil, result{ErrProtocol, StageStatus, "?[2J?", ""}},
		{"a name for us", func(f far) { f.status("named:\x00\x01a\x00\x00\x00\x01") }, nil, result{ErrProtocol, StageStatus, "named:", ""}},
		{"closes", func(f far) {}, nil, result{ErrPeerClosed, StageStatus, "", "is this the port of an Erlang node"}},
		{"closes in a message", func(f far) { f.nc.Write([]byte{0, 9, 's'}) }, nil, result{ErrPeerClosed, StageStatus, "", ""}},
		{"garbage", func(f far) { io.WriteString(f.nc, "HTTP/1.1 400 Bad Request\r\n\r\n") }, nil, result{ErrProtocol, StageStatus, "", ""}},
		{"empty message", func(f far) { f.say(nil) }, nil, result{ErrProtocol, StageStatus, "", ""}},
		{"wrong message", func(f far) { f.say([]byte("a234")) }, nil, result{ErrProtocol, StageStatus, "", ""}},
		{"closes after status", func(f far) { f.status("ok") }, nil, result{ErrPeerClosed, StageChallenge, "ok", ""}},
		{"old challenge", func(f far) { f.status("ok"); f.say([]byte("n\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00a@b")) }, nil, result{ErrTooOld, StageChallenge, "ok", ""}},
		{"short challenge", func(f far) { f.status("ok"); f.say([]byte("N234")) }, nil, result{ErrProtocol, StageChallenge, "ok", ""}},
		{"name longer than the message", func(f far) {
			f.status("ok")
			b := appendChallenge(nil, theirChallenge)
			f.say(b[:len(b)-1])
		}, nil, result{ErrProtocol, StageChallenge, "ok", ""}},
		{"another node", func(f far) {
			f.status("ok")
			m := theirChallenge
			m.name = "bank@there"
			f.say(appendChallenge(nil, m))
		}, nil, result{ErrNameMismatch, StageChallenge, "ok", `"bank@there"`}},
		{"too old", func(f far) {
			f.status("ok")
			m := theirChallenge
			m.flags &^= FlagV4NC | FlagMandatory25Digest
			f.say(appendChallenge(nil, m))
		}, nil, result{ErrTooOld, StageChallenge, "ok", "V4_NC"}},
		{"does not take our cookie", func(f far) { f.status("ok"); f.challenge(theirChallenge) }, nil, result{ErrCookie, StageAck, "ok", "closed the connection"}},
		{"has another cookie for us", func(f far) {
			f.status("ok")
			challenge, _ := f.challenge(theirChallenge)
			f.say(appendAck(nil, NewCookie("other").digest(challenge)))
		}, nil, result{ErrCookie, StageAck, "ok", "another one towards us"}},
		{"short ack", func(f far) { f.status("ok"); f.challenge(theirChallenge); f.say([]byte("a123")) }, nil, result{ErrProtocol, StageAck, "ok", ""}},
		{"says nothing", func(f far) { f.nc.Read(make([]byte, 1)) }, nil, result{ErrHandshakeTimeout, StageStatus, "", ""}},
		{"waits for the old one", func(f far) {
			f.status("alive")
			f.hear()
			f.nc.Read(make([]byte, 1))
		}, nil, result{ErrHandshakeTimeout, StageChallenge, "alive", "earlier connection of ours"}},
		{"says half", func(f far) { f.status("ok"); f.nc.Write([]byte{0, 9, 'N'}); f.nc.Read(make([]byte, 1)) }, nil, result{ErrHandshakeTimeout, StageChallenge, "ok", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nc := scripted(t, func(f far) {
				m, err := parseName(f.hear())
				if err != nil || m.name != us || m.creation != 7 || m.flags != DefaultFlags {
					t.Errorf("our name: %+v, %v", m, err)
				}
				tt.script(f)
			})
			cfg := Config{Name: us, Creation: 7, HandshakeTimeout: 50 * time.Millisecond}
			if tt.want.cause != ErrHandshakeTimeout {
				cfg.HandshakeTimeout = 10 * time.Second
			}
			c, err := Connect(t.Context(), nc, cfg, ConnectOptions{Peer: them, Cookie: NewCookie(spell), KeepOld: tt.keep})
			if tt.want.cause == nil {
				require.NoError(t, err)
				assert.Equal(t, them, c.Peer().Name)
				assert.EqualValues(t, 99, c.Peer().Creation)
				assert.True(t, c.Flags().has(mandatory))
				c.Close()
				return
			}
			checkHandshakeError(t, err, them, tt.want.cause, tt.want.stage, tt.want.status, tt.want.hint)
			_, err = nc.Write([]byte{0})
			require.Error(t, err, "the connection is closed")
		})
	}
}

func checkHandshakeError(t *testing.T, err error, peer string, cause error, stage Stage, status, hint string) {
	t.Helper()
	var e *HandshakeError
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, cause)
	assert.Equal(t, peer, e.Peer)
	assert.Equal(t, stage, e.Stage)
	assert.Truef(t, strings.HasPrefix(e.Status, status), "status %q", e.Status)
	assert.LessOrEqual(t, len(e.Status), 32)
	assert.Contains(t, e.Hint, hint)
	assert.Contains(t, err.Error(), "handshake with "+peer+": "+string(stage)+": ")
	assert.NotContains(t, err.Error(), spell)
}

// TestConnectToNodeOfAnotherName dials where only the first part of the name
// is known.
func TestConnectToNodeOfAnotherName(t *testing.T) {
	refused := errors.New("not one of ours")
	const full = "shop@there.example.org"
	tests := []struct {
		name   string
		answer string
		rename func(string) (Cookie, error)
		cause  error
		peer   string
		hint   string
	}{
		{"taken", full, func(string) (Cookie, error) { return NewCookie(spell), nil }, nil, full, ""},
		{"refused", full, func(string) (Cookie, error) { return Cookie{}, refused }, refused, them, full},
		{"no cookie", full, func(string) (Cookie, error) { return Cookie{}, nil }, ErrCookie, full, "no cookie is configured"},
		{"nobody asked", full, nil, ErrNameMismatch, them, full},
		{"no name", "shop", func(string) (Cookie, error) { return NewCookie(spell), nil }, ErrNameMismatch, them, "shop"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nc := scripted(t, func(f far) {
				f.hear()
				f.status("ok")
				m := theirChallenge
				m.name = tt.answer
				f.say(appendChallenge(nil, m))
				if challenge, sum, err := parseReply(f.hear()); err == nil {
					assert.True(t, NewCookie(spell).proves(42, sum))
					f.say(appendAck(nil, NewCookie(spell).digest(challenge)))
				}
			})
			c, err := Connect(t.Context(), nc, Config{Name: us}, ConnectOptions{Peer: them, Cookie: NewCookie("for another name"), Rename: tt.rename})
			if tt.cause == nil {
				require.NoError(t, err)
				assert.Equal(t, full, c.Peer().Name)
				return
			}
			checkHandshakeError(t, err, tt.peer, tt.cause, StageChallenge, "ok", tt.hint)
		})
	}
}

func TestConnectWithoutNameOrCookie(t *testing.T) {
	_, err := Connect(t.Context(), scripted(t, func(far) {}), Config{Name: us}, ConnectOptions{Peer: them})
	checkHandshakeError(t, err, them, ErrCookie, StageName, "", "no cookie is configured")
	_, err = Connect(t.Context(), scripted(t, func(far) {}), Config{}, ConnectOptions{Peer: them, Cookie: NewCookie(spell)})
	require.ErrorContains(t, err, "want name@host")
}

func TestConnectContext(t *testing.T) {
	nc := scripted(t, func(f far) { f.hear(); f.hear() })
	cancelled := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(5*time.Millisecond, func() { cancel(cancelled) })
	_, err := Connect(ctx, nc, Config{Name: us}, ConnectOptions{Peer: them, Cookie: NewCookie(spell)})
	checkHandshakeError(t, err, them, cancelled, StageStatus, "", "")

	nc = scripted(t, func(f far) { f.hear(); f.hear() })
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer stop()
	_, err = Connect(ctx, nc, Config{Name: us}, ConnectOptions{Peer: them, Cookie: NewCookie(spell)})
	checkHandshakeError(t, err, them, ErrHandshakeTimeout, StageStatus, "", "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// dialAs plays a node that connects to us, up to our challenge, which it
// returns with our status.
func (f far) dialAs(m nameMsg) (status string, challenge nameMsg) {
	f.say(append(appendName(nil, m), "and more of later releases"...))
	status = string(f.hear())
	if status == "salive" {
		f.status("true")
	}
	challenge, _ = parseChallenge(f.hear())
	return status, challenge
}

func TestAccept(t *testing.T) {
	cookie := NewCookie(spell)
	dialler := nameMsg{flags: DefaultFlags, creation: 99, name: them}
	good := func(f far) {
		_, ch := f.dialAs(dialler)
		assert.Equal(t, us, ch.name)
		assert.EqualValues(t, 7, ch.creation)
		f.say(appendReply(nil, 4711, cookie.digest(ch.challenge)))
		sum, err := parseAck(f.hear())
		assert.NoError(t, err)
		assert.True(t, cookie.proves(4711, sum))
	}
	refused := errors.New("no more connections")
	replaced := false
	tests := []struct {
		name   string
		script func(f far)
		answer Decision
		err    error // of Decide
		cause  error
		stage  Stage
		status string
		peer   string
	}{
		{"ok", good, Decision{Status: StatusOK, Cookie: cookie}, nil, nil, "", "", ""},
		{"ok_simultaneous", good, Decision{Status: StatusOKSimultaneous, Cookie: cookie}, nil, nil, "", "", ""},
		{"alive, replaced", good, Decision{Status: StatusAlive, Cookie: cookie, Replace: func(context.Context) error {
			replaced = true
			return nil
		}}, nil, nil, "", "", ""},
		{"alive, not to be replaced", func(f far) {
			_, ch := f.dialAs(dialler)
			f.say(appendReply(nil, 4711, cookie.digest(ch.challenge)))
			assert.Nil(t, f.hear(), "no ack")
		}, Decision{Status: StatusAlive, Cookie: cookie, Replace: func(context.Context) error { return refused }}, nil, refused, StageReply, "alive", them},
		{"alive, was a mistake", func(f far) {
			f.say(appendName(nil, dialler))
			f.hear()
			f.status("false")
		}, Decision{Status: StatusAlive, Cookie: cookie}, nil, ErrAlive, StageStatus, "alive", them},
		{"alive, odd answer", func(f far) {
			f.say(appendName(nil, dialler))
			f.hear()
			f.status("perhaps")
		}, Decision{Status: StatusAlive, Cookie: cookie}, nil, ErrProtocol, StageStatus, "alive", them},
		{"alive, no status", func(f far) {
			f.say(appendName(nil, dialler))
			f.hear()
			f.say([]byte("x"))
		}, Decision{Status: StatusAlive, Cookie: cookie}, nil, ErrProtocol, StageStatus, "alive", them},
		{"alive, closes", func(f far) {
			f.say(appendName(nil, dialler))
			f.hear()
		}, Decision{Status: StatusAlive, Cookie: cookie}, nil, ErrPeerClosed, StageStatus, "alive", them},
		{"nok", func(f far) {
			status, _ := f.dialAs(dialler)
			assert.Equal(t, "snok", status)
		}, Decision{Status: StatusNOK}, nil, ErrSimultaneous, StageName, "nok", them},
		{"not allowed", func(f far) {
			status, _ := f.dialAs(dialler)
			assert.Equal(t, "snot_allowed", status)
		}, Decision{Status: StatusNotAllowed}, nil, ErrNotAllowed, StageName, "not_allowed", them},
		{"no decision", func(f far) { f.dialAs(dialler) }, Decision{}, nil, ErrNotAllowed, StageName, "not_allowed", them},
		{"decision fails", func(f far) {
			status, _ := f.dialAs(dialler)
			assert.Equal(t, "snot_allowed", status)
		}, Decision{}, refused, refused, StageName, "not_allowed", them},
		{"wrong cookie", func(f far) {
			_, ch := f.dialAs(dialler)
			f.say(appendReply(nil, 4711, NewCookie("other").digest(ch.challenge)))
			assert.Nil(t, f.hear(), "no ack")
		}, Decision{Status: StatusOK, Cookie: cookie}, nil, ErrCookie, StageReply, "ok", them},
		{"no cookie", func(f far) {
			_, ch := f.dialAs(dialler)
			f.say(appendReply(nil, 4711, Cookie{}.digest(ch.challenge)))
			assert.Nil(t, f.hear(), "no ack")
		}, Decision{Status: StatusOK}, nil, ErrCookie, StageReply, "ok", them},
		{"too old", func(f far) {
			m := dialler
			m.flags &^= FlagUnlinkID
			status, _ := f.dialAs(m)
			assert.Equal(t, "snot_allowed", status)
		}, Decision{}, nil, ErrTooOld, StageName, "not_allowed", them},
		{"old name", func(f far) { f.say([]byte("n\x00\x05\x00\x00\x00\x00a@b")) }, Decision{}, nil, ErrTooOld, StageName, "", "pipe"},
		{"wants a name", func(f far) {
			m := dialler
			m.flags |= FlagNameMe
			status, _ := f.dialAs(m)
			assert.Equal(t, "snot_allowed", status)
		}, Decision{}, nil, ErrNotAllowed, StageName, "not_allowed", "pipe"},
		{"name with an escape", func(f far) {
			m := dialler
			m.name = "shop\x1b@there"
			f.say(appendName(nil, m))
		}, Decision{}, nil, ErrProtocol, StageName, "", "pipe"},
		{"no node name", func(f far) {
			m := dialler
			m.name = "shop"
			f.say(appendName(nil, m))
		}, Decision{}, nil, ErrProtocol, StageName, "", "pipe"},
		{"closes", func(far) {}, Decision{}, nil, ErrPeerClosed, StageName, "", "pipe"},
		{"garbage", func(f far) { io.WriteString(f.nc, "GET / HTTP/1.1\r\n\r\n") }, Decision{}, nil, ErrProtocol, StageName, "", "pipe"},
		{"short name", func(f far) { f.say([]byte("N123")) }, Decision{}, nil, ErrProtocol, StageName, "", "pipe"},
		{"closes before the reply", func(f far) { f.dialAs(dialler) }, Decision{Status: StatusOK, Cookie: cookie}, nil, ErrPeerClosed, StageReply, "ok", them},
		{"short reply", func(f far) { f.dialAs(dialler); f.say([]byte("r123")) }, Decision{Status: StatusOK, Cookie: cookie}, nil, ErrProtocol, StageReply, "ok", them},
		{"silent", func(f far) { f.nc.Read(make([]byte, 1)) }, Decision{}, nil, ErrHandshakeTimeout, StageName, "", "pipe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Name: us, Creation: 7, HandshakeTimeout: 10 * time.Second}
			if tt.cause == ErrHandshakeTimeout {
				cfg.HandshakeTimeout = 20 * time.Millisecond
			}
			asked := 0
			c, err := Accept(t.Context(), scripted(t, tt.script), cfg, AcceptOptions{
				Decide: func(_ context.Context, p Peer) (Decision, error) {
					asked++
					assert.Equal(t, them, p.Name)
					assert.EqualValues(t, 99, p.Creation)
					return tt.answer, tt.err
				},
			})
			assert.LessOrEqual(t, asked, 1)
			if tt.cause == nil {
				require.NoError(t, err)
				assert.Equal(t, them, c.Peer().Name)
				c.Close()
				return
			}
			checkHandshakeError(t, err, tt.peer, tt.cause, tt.stage, tt.status, "")
			assert.Equal(t, tt.status, err.(*HandshakeError).Status)
		})
	}
	assert.True(t, replaced)
}

func TestAcceptNobody(t *testing.T) {
	nc := scripted(t, func(f far) {
		status, _ := f.dialAs(nameMsg{flags: DefaultFlags, creation: 99, name: them})
		assert.Equal(t, "snot_allowed", status)
	})
	_, err := Accept(t.Context(), nc, Config{Name: us}, AcceptOptions{})
	checkHandshakeError(t, err, them, ErrNotAllowed, StageName, "not_allowed", "")
}

func TestResolveSimultaneous(t *testing.T) {
	assert.Equal(t, StatusNOK, ResolveSimultaneous("b@h", "a@h"))
	assert.Equal(t, StatusOKSimultaneous, ResolveSimultaneous("a@h", "b@h"))
}

// TestBothSides connects our two sides with each other over TCP.
func TestBothSides(t *testing.T) {
	a, b := connected(t, Config{Name: us}, Config{Name: them})
	assert.Equal(t, them, a.Peer().Name)
	assert.Equal(t, us, b.Peer().Name)
	assert.Equal(t, a.Flags(), b.Flags())
	assert.False(t, a.Flags().has(FlagPublished))
}

// connected returns two connections, one to the other, over the loopback
// interface. They do not run yet.
func connected(t testing.TB, acfg, bcfg Config) (a, b *Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	accepted := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err == nil {
			b, err = Accept(context.Background(), nc, bcfg, AcceptOptions{Decide: func(context.Context, Peer) (Decision, error) {
				return Decision{Status: StatusOK, Cookie: NewCookie(spell)}, nil
			}})
		}
		accepted <- err
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	a, err = Connect(context.Background(), nc, acfg, ConnectOptions{Peer: bcfg.Name, Cookie: NewCookie(spell)})
	require.NoError(t, err)
	require.NoError(t, <-accepted)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestHandshakeErrorText(t *testing.T) {
	err := &HandshakeError{Peer: "shop@10.0.0.5", Stage: StageStatus, Status: "not_allowed", Cause: ErrNotAllowed, Hint: "look there"}
	assert.Equal(t, "handshake with shop@10.0.0.5: status: status not_allowed: not allowed (look there)", err.Error())
	assert.Equal(t, "packet at byte 9: length 1: x", (&PacketError{Offset: 9, Msg: "length 1", Cause: fmt.Errorf("x")}).Error())
	assert.Equal(t, "packet at byte 9: length 1", (&PacketError{Offset: 9, Msg: "length 1"}).Error())
}

// Names are Latin-1 in the handshake, and UTF-8 everywhere else.
func TestNamesAreLatin1(t *testing.T) {
	const name = "odd@h'\u00e9\"x"
	b := appendName(nil, nameMsg{name: name})
	require.Equal(t, "odd@h'\xe9\"x", string(b[15:]))
	m, err := parseName(b)
	require.NoError(t, err)
	require.Equal(t, name, m.name)
	m, err = parseChallenge(appendChallenge(nil, nameMsg{name: name}))
	require.NoError(t, err)
	require.Equal(t, name, m.name)
	require.NoError(t, checkName(name))
	require.Error(t, checkName("odd@\u65e5\u672c"))
}
