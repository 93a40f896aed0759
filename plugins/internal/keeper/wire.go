//go:build unix

package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/debughost/debughost/sdk"
)

// protocol is told in the first request and its answer.
const protocol = 1

// maxLine bounds one message.
const maxLine = 4 << 20

// op is what a request asks for.
type op string

const (
	opHello   op = "hello"   // Host; a pidfd may come along
	opCreate  op = "create"  // Spec
	opInspect op = "inspect" // ID
	opStop    op = "stop"    // ID, Timeout; answered at once
	opDestroy op = "destroy" // ID; answered when nothing is left
	opRecover op = "recover" // ID, Token
)

// request is what a client sends.
type request struct {
	N       uint64        `json:"n"`
	Op      op            `json:"op"`
	ID      string        `json:"id,omitempty"`
	Token   string        `json:"token,omitempty"`
	Spec    *Spec         `json:"spec,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Host    int           `json:"host,omitempty"` // pid of the host, where no pidfd comes along
	Version int           `json:"version,omitempty"`
}

// message is what a keeper sends: an answer, or an event where N is 0.
type message struct {
	N      uint64     `json:"n,omitempty"`
	Error  *failure   `json:"error,omitempty"`
	Status *Status    `json:"status,omitempty"`
	Hello  *hello     `json:"hello,omitempty"`
	Exited *exitEvent `json:"exited,omitempty"`
	Log    *logEvent  `json:"log,omitempty"`
}

type hello struct {
	Version   int    `json:"version"`
	Isolation string `json:"isolation"` // in words
}

// exitEvent is told to the connection that owns the command.
type exitEvent struct {
	ID    string          `json:"id"`
	Token string          `json:"token"`
	Exit  sdk.SandboxExit `json:"exit"`
}

// logEvent is a line for the log of the plugin.
type logEvent struct {
	Warn bool   `json:"warn,omitempty"`
	Text string `json:"text"`
	ID   string `json:"id,omitempty"`
}

// Status is what a keeper knows of a command.
type Status struct {
	Token    string            `json:"token"` // tells it from others that had its id
	State    sdk.SandboxState  `json:"state"`
	OSPid    int               `json:"os_pid"` // as the host sees it
	Started  time.Time         `json:"started"`
	Memory   uint64            `json:"memory"`
	Exit     *sdk.SandboxExit  `json:"exit,omitempty"`
	Enforced map[string]string `json:"enforced"`
	Dir      string            `json:"dir"` // its own, where its log is too
}

// failure is an error on its way.
type failure struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// codes are the errors that keep their identity.
var codes = map[string]error{
	"not_found": sdk.ErrNotFound,
	"exists":    sdk.ErrExists,
	"spec":      ErrSpec,
	"ending":    errEnding,
}

// errEnding is the answer of a keeper that is on its way out.
var errEnding = errors.New("the keeper ends")

func toFailure(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Message: err.Error(), Hint: sdk.Hint(err)}
	for code, cause := range codes {
		if errors.Is(err, cause) {
			f.Code = code
		}
	}
	return f
}

// remote is an error as it came: its text is complete, its cause is known.
type remote struct {
	message string
	cause   error
}

func (r *remote) Error() string { return r.message }
func (r *remote) Unwrap() error { return r.cause }

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return sdk.WithHint(&remote{f.Message, codes[f.Code]}, f.Hint)
}

// encode is one line.
func encode(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(line) >= maxLine {
		return nil, fmt.Errorf("%w: a message of %d bytes", ErrSpec, len(line))
	}
	return append(line, '\n'), nil
}
