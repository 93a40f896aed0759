package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/reach"
)

// Explain says in a person's words why a node cannot be attached to, or why its
// connection ended.
func Explain(err error) Verdict {
	var cookie *CookieError
	var down *node.NodeDownError
	var shake *dist.HandshakeError
	var dial *node.ConnectError
	var tls *reach.TLSError
	var ssh *reach.SSHError
	switch {
	case err == nil:
		return Verdict{State: Gone, Reason: "the connection was closed"}
	case errors.As(err, &cookie):
		return Verdict{State: Refused, Reason: "no usable cookie: " + cookie.Err.Error(), Hint: "see [targets] cookie_file and [[targets.cookies]]", Slow: true}
	case errors.As(err, &down):
		return explainEnd(down)
	case errors.As(err, &ssh):
		return Verdict{State: Unreachable, Reason: ssh.Error(), Hint: "as the user that debughost runs as, `ssh -o BatchMode=yes -W HOST:PORT " + ssh.Via + "` must lead there without a question; see [[targets.ssh]]"}
	case errors.As(err, &tls) && errors.Is(err, context.DeadlineExceeded):
		return Verdict{State: Unreachable, Reason: tls.Reason, Hint: tls.Hint}
	case errors.As(err, &tls):
		return Verdict{State: Refused, Reason: tls.Reason, Hint: tls.Hint, Slow: true}
	case errors.As(err, &shake) && reach.IsAlert(err):
		return Verdict{State: Refused, Reason: reach.AlertReason(err), Hint: reach.AlertHint, Slow: true}
	case errors.As(err, &shake):
		return explainHandshake(shake)
	case errors.As(err, &dial):
		return explainDial(dial)
	case errors.Is(err, context.DeadlineExceeded):
		return Verdict{State: Unreachable, Reason: "no answer in time", Hint: "the node may be frozen, or a firewall drops the packets"}
	}
	return Verdict{State: Unreachable, Reason: err.Error()}
}

// CookieError says that there is no cookie to attach to a node with.
type CookieError struct {
	Node string
	Err  error
}

func (e *CookieError) Error() string { return fmt.Sprintf("read cookie for %s: %v", e.Node, e.Err) }

// Unwrap returns the cause.
func (e *CookieError) Unwrap() error { return e.Err }

func explainEnd(e *node.NodeDownError) Verdict {
	switch {
	case errors.Is(e, dist.ErrTickTimeout), errors.Is(e, dist.ErrWriteTimeout):
		return Verdict{State: Unreachable, Reason: "it did not answer for a whole tick time", Hint: "the node is frozen or overloaded, or the network between is gone"}
	case errors.Is(e, dist.ErrPeerClosed), errors.Is(e, syscall.ECONNRESET):
		return Verdict{State: Gone, Reason: "the node closed the connection", Hint: "it stopped, crashed, was killed, or disconnected debughost"}
	}
	return Verdict{State: Gone, Reason: "the connection ended: " + e.Cause.Error()}
}

func explainHandshake(e *dist.HandshakeError) Verdict {
	v := Verdict{State: Refused, Slow: true, Hint: e.Hint}
	switch {
	case errors.Is(e, dist.ErrCookie):
		v.Reason = "wrong cookie"
		v.Hint = "give the node's cookie by [targets] cookie_file, or for some nodes by [[targets.cookies]]"
	case errors.Is(e, dist.ErrNotAllowed):
		v.Reason = "the node does not allow us to connect"
	case errors.Is(e, dist.ErrTLS):
		v.Reason, v.Hint = "the node speaks TLS distribution", "have it spoken to by TLS: [[targets.tls]]"
	case errors.Is(e, dist.ErrTooOld):
		v.Reason = "version too old: the node is older than OTP 25"
	case errors.Is(e, dist.ErrNameMismatch):
		v.Reason = "another node answers at its address: " + e.Answered
	case errors.Is(e, dist.ErrAlive), errors.Is(e, dist.ErrSimultaneous):
		v.Reason, v.Slow = "the node still has an earlier connection with our name", false
		v.Hint = "it lets go of it within its net_ticktime; two debughosts must not share a node name"
	case errors.Is(e, dist.ErrHandshakeTimeout), errors.Is(e, context.DeadlineExceeded):
		return Verdict{State: Unreachable, Reason: "it accepts connections but does not answer", Hint: "the node is frozen, or overloaded"}
	case errors.Is(e, dist.ErrPeerClosed):
		return Verdict{State: Unreachable, Reason: "the node closed the connection in the handshake", Hint: e.Hint}
	case errors.Is(e, dist.ErrProtocol):
		v.Reason = "what listens there is not an Erlang node"
	default:
		v.State, v.Slow, v.Reason = Unreachable, false, e.Cause.Error()
	}
	return v
}

func explainDial(e *node.ConnectError) Verdict {
	v := Verdict{State: Unreachable, Hint: e.Hint}
	var dns *net.DNSError
	switch {
	case errors.As(e, &dns) || e.Stage == node.StageResolve:
		v.Reason = "name not resolvable: " + e.Cause.Error()
		if v.Hint == "" {
			v.Hint = "the part behind the @ must resolve on this machine, as it does on the node's"
		}
	case errors.Is(e, epmd.ErrNotRegistered):
		v.Reason, v.Absent = "its EPMD does not know the name: the node is not running", true
	case e.Stage == node.StageEPMD && errors.Is(e, syscall.ECONNREFUSED):
		v.Reason = "no EPMD answers on its host"
		v.Hint = "EPMD starts with the first node; ERL_EPMD_PORT sets another port"
	case errors.Is(e, syscall.ECONNREFUSED):
		v.Reason, v.Absent = "refused: nothing listens at its port any more", true
	case errors.Is(e, context.DeadlineExceeded), errors.Is(e, syscall.ETIMEDOUT):
		v.Reason = "no answer in time"
		v.Hint = "the host is down, or a firewall drops the packets"
	case errors.Is(e, fs.ErrPermission):
		v.Reason = "not permitted: " + e.Cause.Error()
	default:
		v.Reason = fmt.Sprintf("%s: %v", e.Stage, e.Cause)
	}
	return v
}
