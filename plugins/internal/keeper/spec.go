//go:build unix

package keeper

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Spec is a command to run.
type Spec struct {
	ID      string
	Command []string // a path or a name to be looked up, and its arguments
	// Env is added to a clean environment; see environ.
	Env []string
	// Dir is the working directory. Empty is the command's own directory, which
	// is made for it and removed with it, and is its HOME in any case.
	Dir string
	// Home is a directory, on the file system of the state directory, that becomes the
	// command's own: it is moved. Empty is an empty one. When Create fails it may be
	// gone.
	Home string
	// StopSignal asks it to end; 0 is SIGTERM.
	StopSignal syscall.Signal
	// LogSize bounds the bytes of its log on disk; 0 is DefaultLogSize.
	LogSize int64
	// LogRate bounds the bytes of output a second that are kept; 0 is
	// DefaultLogRate. A burst of four times as much is kept.
	LogRate int64
	Limits  sdk.SandboxLimits
	// View shuts it in; nil is to see and reach what the keeper's user does.
	View *View
	// Orphan is how long it may run after plugin and host are gone.
	Orphan time.Duration
}

// The defaults of a log, and the least that it may be bounded to.
const (
	DefaultLogSize = 8 << 20
	DefaultLogRate = 1 << 20
	MinLogSize     = 256 << 10
	MinLogRate     = 1 << 10
)

// MaxOrphan bounds Spec.Orphan, so that a keeper does not stay for good.
const MaxOrphan = 24 * time.Hour

// idSyntax keeps ids fit for a file's name.
var idSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ErrSpec is wrapped by the error of Create for a Spec that cannot be run by
// any keeper.
var ErrSpec = errors.New("invalid spec")

// check fills in defaults and finds what cannot be meant.
func (s *Spec) check() error {
	if !idSyntax.MatchString(s.ID) {
		return fmt.Errorf("%w: the id %.140q is not 1 to 128 letters, digits and ._- that begin with a letter or a digit", ErrSpec, s.ID)
	}
	if len(s.Command) == 0 || s.Command[0] == "" {
		return fmt.Errorf("%w: there is no command", ErrSpec)
	}
	for _, text := range append(append([]string{s.Dir, s.Home}, s.Command...), s.Env...) {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("%w: %.40q has a zero byte in it", ErrSpec, text)
		}
	}
	for _, kv := range s.Env {
		if i := strings.IndexByte(kv, '='); i <= 0 {
			return fmt.Errorf("%w: the variable %.40q has no name", ErrSpec, kv)
		}
	}
	if err := s.View.check(); err != nil {
		return err
	}
	if s.Limits.CPUs < 0 || s.Limits.CPUs != s.Limits.CPUs {
		return fmt.Errorf("%w: a limit of %v CPUs", ErrSpec, s.Limits.CPUs)
	}
	if s.StopSignal == 0 {
		s.StopSignal = syscall.SIGTERM
	}
	if s.LogSize <= 0 {
		s.LogSize = DefaultLogSize
	}
	if s.LogRate <= 0 {
		s.LogRate = DefaultLogRate
	}
	s.LogSize, s.LogRate = max(s.LogSize, MinLogSize), max(s.LogRate, MinLogRate)
	s.Orphan = min(max(s.Orphan, 0), MaxOrphan)
	return nil
}

// environ is the environment of the command: nothing of the keeper's, nothing
// of the host's, and what the spec adds last, so that it wins.
func (s *Spec) environ(home, tmp string) []string {
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "TMPDIR": tmp, "LANG": "C.UTF-8"}
	order := []string{"PATH", "HOME", "TMPDIR", "LANG"}
	for _, kv := range append(append([]string{}, s.Env...), "DEBUGHOST_CHILD="+s.ID) {
		name, value, _ := strings.Cut(kv, "=")
		if _, ok := env[name]; !ok {
			order = append(order, name)
		}
		env[name] = value
	}
	out := make([]string, len(order))
	for i, name := range order {
		out[i] = name + "=" + env[name]
	}
	return out
}
