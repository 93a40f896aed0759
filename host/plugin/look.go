package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Seen is what can be told of a plugin without having it at work.
type Seen struct {
	Path    string   // of its file
	Version string   // as it says; empty where it does not
	Kind    sdk.Kind // likewise
}

// Look finds a plugin's file as a start would: in dirs, then in the places of
// the installation that executable belongs to. It checks whether the file may
// be run and its checksum, which may be empty, and runs it as a person would,
// to hear what it says it is. One that says nothing is no error.
func Look(ctx context.Context, name, checksum string, dirs []string, executable string) (Seen, error) {
	path, err := find(name, searchDirs(dirs, executable))
	if err != nil {
		return Seen{}, err
	}
	s := Seen{Path: path}
	if err := verify(path, checksum); err != nil {
		return s, err
	}
	return s, s.ask(ctx, name)
}

// introduction is the first line of a plugin that is started by hand; see
// sdk.Serve.
var introduction = regexp.MustCompile(`^(\S+) (\S+) is a (\S+) plugin of debughost`)

// lookTime bounds how long a plugin that is started by hand may run.
const lookTime = 5 * time.Second

func (s *Seen) ask(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var out limited
	cmd := exec.CommandContext(ctx, s.Path)
	cmd.Env = []string{} // nothing of ours is its business
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if m := introduction.FindSubmatch(out.b.Bytes()); m != nil {
		if string(m[1]) != name {
			return fmt.Errorf("look at plugin %s: it says that it is %s (the name of its file must be its own)", s.Path, m[1])
		}
		s.Version, s.Kind = string(m[2]), sdk.Kind(m[3])
		return nil
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("run plugin %s: %w", s.Path, err)
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ b bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 4096 - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
