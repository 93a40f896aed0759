//go:build unix

package sandboxbeam

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// A compiler takes longer to start than to compile what has changed. So the first
// reload of a sandbox leaves one running, on a copy of the source of its own, for those
// that follow (boot/warm.exs). What it makes is not kept for other sandboxes: it has
// seen more than one state of the source.

//go:embed boot/warm.exs
var warmCompiler []byte

const (
	warmTime = 10 * time.Minute // that it stays after it was used last
	maxWarm  = 4                // that stay at a time
	warmPoll = 5 * time.Millisecond
)

// warm is a compiler that stays.
type warm struct {
	id   string // the keeper's
	home string
	stop context.CancelFunc // of its coming up
	key  string             // of what it was started with; one with another is of no use
	end  *time.Timer
	last time.Time // it was used
	busy bool
	up   chan struct{} // closed when it can be used, or never will
}

// warmKey is a hash of what a compiler reads only when it starts.
func (s *Strategy) warmKey(spec sdk.SandboxSpec, n Node, o *opened) (string, error) {
	h := []string{string(o.kind), o.sys.bin, filepath.Base(o.path), fmt.Sprint(spec.Limits, n.Network)}
	if o.kind == mix {
		names, err := fs.Glob(os.DirFS(o.path), "apps/*/mix.exs")
		if err != nil {
			return "", err
		}
		// Mix compiles what is in deps once, and reads the others when it starts.
		for _, name := range append(names, "mix.exs", "mix.lock", "config", "deps") {
			text, err := hashTree(filepath.Join(o.path, name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			h = append(h, name, text)
		}
	}
	return strings.Join(append(h, s.environ(n, o.sys)...), "\x00"), nil
}

// warmUp leaves a compiler running for a sandbox. It goes on when it has returned, with
// a copy of the source.
func (s *Strategy) warmUp(spec sdk.SandboxSpec, n Node, o *opened) error {
	if o.sys.elixir == "" || o.kind != mix && o.kind != script && o.kind != module {
		return nil
	}
	key, err := s.warmKey(spec, n, o)
	if err != nil {
		return err
	}
	stage, err := s.stage()
	if err != nil {
		return err
	}
	w := &warm{id: "warm-" + filepath.Base(stage), key: key, busy: true, up: make(chan struct{})}
	w.home = keeper.Home(filepath.Join(s.dir, buildsDir), w.id)
	k, err := s.warmCommand(stage, w, spec, n, o)
	if err != nil {
		return errors.Join(err, os.RemoveAll(stage))
	}
	ctx, cancel := context.WithTimeout(s.ctx, n.CompileTimeout)
	w.stop = cancel
	s.drop(spec.ID)
	s.mu.Lock()
	s.warms[spec.ID] = w
	s.mu.Unlock()
	go func() {
		defer cancel()
		defer os.RemoveAll(stage)
		defer close(w.up)
		if o.kind == mix {
			_ = s.compiledDeps(ctx, stage, spec, n, o.sys) // it compiles them itself then
		}
		err := ctx.Err()
		if err == nil {
			_, err = s.builds.Create(ctx, k)
		}
		if err == nil {
			err = s.warmWait(ctx, w, "up", "", time.Time{})
		}
		if err != nil || ctx.Err() != nil {
			s.cool(spec.ID, w)
			return
		}
		s.rest(spec.ID, w)
	}()
	return nil
}

func (s *Strategy) warmCommand(stage string, w *warm, spec sdk.SandboxSpec, n Node, o *opened) (keeper.Spec, error) {
	var err error
	if o.kind == mix {
		err = copyTree(o.path, filepath.Join(stage, "src"), o.within, notSource)
	} else if err = os.Mkdir(filepath.Join(stage, "src"), 0o700); err == nil {
		err = copyFile(o.path, filepath.Join(stage, "src", filepath.Base(o.path)))
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(stage, "out"), 0o700)
	}
	for name, text := range map[string][]byte{"warm.exs": warmCompiler, "exs_modules.exs": exsModules, "export.exs": mixExport, "mix.exs": mixVendored} {
		if err == nil {
			err = os.WriteFile(filepath.Join(stage, name), text, 0o600)
		}
	}
	out, env := filepath.Join(w.home, "out"), s.environ(n, o.sys)
	command := []string{filepath.Join(o.sys.bin, "elixir"), filepath.Join(w.home, "warm.exs")}
	if o.kind == mix {
		command = mixRun(o.sys, filepath.Join(w.home, "mix.exs"), filepath.Join(w.home, "warm.exs"))
		env = append(env, s.mixEnviron(n, o.sys)...)
	}
	k := s.compiler(w.id, stage, w.home, command, append(env, "MIX_BUILD_PATH="+out, "DEBUGHOST_EXPORT="+out,
		"DEBUGHOST_WARM="+w.home, "DEBUGHOST_KIND="+string(o.kind), "DEBUGHOST_MAIN="+filepath.Base(o.path)+"\n"+s.mainFile(spec.ID)), spec, n, o.sys)
	return k, err
}

// warmBuild has the compiler that stays make the directory to; false: there is none that
// could, and nothing was done.
func (s *Strategy) warmBuild(ctx context.Context, to string, spec sdk.SandboxSpec, n Node, o *opened) (done bool, err error) {
	key, err := s.warmKey(spec, n, o)
	if err != nil {
		return false, nil // there are links in what it is made of, which a copy has not
	}
	ctx, cancel := context.WithTimeout(ctx, n.CompileTimeout)
	defer cancel()
	w := s.take(ctx, spec.ID, key)
	if w == nil {
		return false, ctx.Err()
	}
	err = s.warmCompile(ctx, w, o)
	var failed *compileError
	if err != nil && !errors.As(err, &failed) {
		s.cool(spec.ID, w) // it is not what it should be: another one does it
		if ctx.Err() != nil {
			return true, fmt.Errorf("compile %s: %w", o.shown, ctx.Err())
		}
		return false, nil
	}
	defer s.rest(spec.ID, w)
	if failed != nil {
		return true, fmt.Errorf("compile %s%s", o.shown, behind(failed.text))
	}
	return true, copyTree(filepath.Join(w.home, "out"), to, w.home, []string{".mix"})
}

// take gives a compiler to one that reloads, once it has come up; nil: there is none.
func (s *Strategy) take(ctx context.Context, id, key string) *warm {
	s.mu.Lock()
	w := s.warms[id]
	s.mu.Unlock()
	if w == nil || w.key != key {
		return nil
	}
	select {
	case <-w.up:
	case <-ctx.Done():
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warms[id] != w || w.busy || !w.end.Stop() {
		return nil
	}
	w.busy = true
	return w
}

// compileError is what a compiler says.
type compileError struct{ text string }

func (e *compileError) Error() string { return e.text }

func (s *Strategy) warmCompile(ctx context.Context, w *warm, o *opened) error {
	home, err := os.OpenRoot(w.home)
	if err != nil {
		return err
	}
	defer home.Close()
	stage, err := s.stage()
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	fresh := filepath.Join(stage, "src")
	if o.kind == mix {
		err = copyTree(o.path, fresh, o.within, notSource)
	} else if err = os.Mkdir(fresh, 0o700); err == nil {
		err = copyFile(o.path, filepath.Join(fresh, filepath.Base(o.path)))
	}
	if err != nil {
		return err
	}
	// Mix goes by the times of files, in seconds: what is changed within the second of
	// the last compilation it would not see.
	if next := time.Until(w.last.Truncate(time.Second).Add(time.Second)); o.kind == mix && next > 0 {
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := syncTree(fresh, home, "src"); err != nil {
		return err
	}
	token := make([]byte, 8)
	_, _ = rand.Read(token)
	began := time.Now()
	if err := writeNew(filepath.Join(w.home, "todo"), []byte(hex.EncodeToString(token))); err != nil {
		return err
	}
	return s.warmWait(ctx, w, "done", hex.EncodeToString(token), began)
}

// warmWait waits until the compiler has written a file, with the token in it.
func (s *Strategy) warmWait(ctx context.Context, w *warm, name, token string, began time.Time) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		if _, err := s.builds.Wait(waiting, w.id); err == nil {
			close(ended)
		}
	}()
	tick := time.NewTicker(warmPoll)
	defer tick.Stop()
	file := filepath.Join(w.home, name)
	for {
		if f, err := openRegular(file); err == nil {
			text, err := io.ReadAll(io.LimitReader(f, 100))
			if err = cmp.Or(err, f.Close()); err != nil {
				return err
			}
			switch result, ok := strings.CutPrefix(string(text), token); {
			case !ok: // of one before
			case token == "" || result == " ok":
				return nil
			default:
				return &compileError{s.said(ctx, w.id, began, token)}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errors.New("the compiler has ended")
		}
	}
}

// said is what a compiler has printed since a time, until the lines that end it: one of
// each stream, of which one may be read before the other.
func (s *Strategy) said(ctx context.Context, id string, since time.Time, token string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var said output
	ends := 0
	_ = s.builds.Logs(ctx, id, sdk.LogOptions{Follow: true}, func(l sdk.LogLine) error {
		if bytes.HasPrefix(l.Line, []byte(token)) {
			if ends++; ends == 2 {
				return io.EOF
			}
			return nil
		}
		if l.Time.After(since) {
			said.add(l.Line)
		}
		return nil
	})
	return said.String()
}

// rest lets a compiler wait for its next use, and ends those that are too many.
func (s *Strategy) rest(id string, w *warm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warms[id] != w {
		go s.cool(id, w)
		return
	}
	w.busy, w.last = false, time.Now()
	w.end = time.AfterFunc(warmTime, func() { s.cool(id, w) })
	for len(s.warms) > maxWarm {
		var oldest string
		for other, v := range s.warms {
			if !v.busy && other != id && (oldest == "" || v.last.Before(s.warms[oldest].last)) {
				oldest = other
			}
		}
		if oldest == "" {
			return
		}
		v := s.warms[oldest]
		delete(s.warms, oldest)
		go s.cool(oldest, v)
	}
}

// drop ends the compiler of a sandbox.
func (s *Strategy) drop(id string) {
	s.mu.Lock()
	w := s.warms[id]
	s.mu.Unlock()
	if w != nil {
		s.cool(id, w)
	}
}

// cool ends a compiler.
func (s *Strategy) cool(id string, w *warm) {
	s.mu.Lock()
	if s.warms[id] == w {
		delete(s.warms, id)
	}
	if w.end != nil {
		w.end.Stop()
	}
	s.mu.Unlock()
	w.stop()
	s.destroyCompiler(w.id)
}

// syncTree makes a directory of a root like another one, and touches only what differs:
// what a compiler goes by is the time of a file. Whatever the compiler does there
// meanwhile, nothing outside of the root is written to.
func syncTree(from string, root *os.Root, to string) error {
	seen := map[string]bool{}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		seen[rel] = true
		at := filepath.Join(to, rel)
		if d.IsDir() {
			return root.MkdirAll(at, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if had, err := root.ReadFile(at); err == nil && bytes.Equal(had, text) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := root.RemoveAll(at); err != nil {
			return err
		}
		return root.WriteFile(at, text, 0o600|info.Mode().Perm()&0o100)
	})
	if err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), filepath.ToSlash(to), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(to, filepath.FromSlash(path))
		if err != nil || seen[rel] {
			return err
		}
		if err := root.RemoveAll(filepath.FromSlash(path)); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}
