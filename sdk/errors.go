package sdk

import (
	"errors"
	"strings"
)

// Errors that keep their meaning on the way from a plugin to the host. A
// strategy wraps them: fmt.Errorf("inspect %s: %w", id, sdk.ErrNotFound).
var (
	// ErrNotFound: the sandbox is not known, or not any more.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id is in use.
	ErrExists = errors.New("exists already")
	// ErrNoQuorum: too few members are alive for a placement.
	ErrNoQuorum = errors.New("no quorum")
	// ErrNoCandidate: no alive member may take the child.
	ErrNoCandidate = errors.New("no candidate")
	// ErrUnsupported: the plugin lacks this ability.
	ErrUnsupported = errors.New("not supported by this plugin")
	// ErrUnsure: it is not certain what the sandbox runs now; the host starts it anew.
	ErrUnsure = errors.New("what the sandbox runs is not certain")
	// ErrNotConfigured: Configure must come first.
	ErrNotConfigured = errors.New("plugin is not configured")
	// ErrConfigured: Configure was called before.
	ErrConfigured = errors.New("plugin is configured already")
	// ErrUnavailable is for hosts: the plugin's process cannot be reached.
	ErrUnavailable = errors.New("plugin is not reachable")
	// ErrPanic is for hosts: the plugin's method panicked. It goes on serving.
	ErrPanic = errors.New("plugin panicked")
	// ErrGarbage is for hosts: the plugin answered what the contract forbids.
	ErrGarbage = errors.New("plugin broke the contract")
)

// WithHint adds to an error what a person may do about it. The hint travels
// beside the message. It is nil for a nil error.
func WithHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{err, hint}
}

// Hint returns the outermost hint of an error, or "".
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

// Problem is one thing that is wrong with a config.
type Problem struct {
	Path    string // "hosts[2].name"; empty is the section as a whole
	Message string
}

// ConfigError is all that is wrong with a config.
type ConfigError struct {
	Problems []Problem
}

// Invalid is a ConfigError about one key.
func Invalid(path, message string) error {
	return &ConfigError{[]Problem{{path, message}}}
}

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		if lines[i] = p.Message; p.Path != "" {
			lines[i] = p.Path + ": " + p.Message
		}
	}
	return strings.Join(lines, "; ")
}

func (e *ConfigError) add(path, message string) {
	e.Problems = append(e.Problems, Problem{path, message})
}

// orNil is the error, or nil when it holds no problem.
func (e *ConfigError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// CallError is for hosts: a call to a plugin failed. It unwraps to one of the
// errors above or to a context's error where the cause is one of those.
type CallError struct {
	Method  string // "Discovery.Watch"
	Message string // the plugin's words
	Advice  string // the plugin's hint, may be empty
	Cause   error  // may be nil
}

func (e *CallError) Error() string {
	switch {
	case e.Message == "" && e.Cause != nil:
		return "call " + e.Method + ": " + e.Cause.Error()
	case e.Cause != nil && !strings.Contains(e.Message, e.Cause.Error()):
		return "call " + e.Method + ": " + e.Cause.Error() + ": " + e.Message
	}
	return "call " + e.Method + ": " + e.Message
}

// Unwrap returns the cause.
func (e *CallError) Unwrap() error { return e.Cause }

// Hint returns the plugin's hint, or "".
func (e *CallError) Hint() string { return e.Advice }
