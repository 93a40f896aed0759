//go:build unix

package sandboxbeam

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

//go:embed boot/mix_export.exs
var mixExport []byte

//go:embed boot/vendored.exs
var mixVendored []byte

// What a source is made into is a directory by the hash of all that it depends on, with
//
//	lib/APP/ebin  the modules, and lib/APP/priv
//	sys.config    the environment of applications
//	apps          those to start, [shop].
//	states.term   states of processes, where it was taken from a node
//
// of which a module and a script have only the first. It is made under another name and
// renamed, so that it is whole or not there.

//go:embed boot/exs_modules.exs
var exsModules []byte

// notSource are the parts of a project that it is not compiled from: those with a dot
// wherever they are, the others at its top.
var notSource = []string{"_build", ".git", ".fetch", "node_modules", "cover", ".elixir_ls", ".DS_Store"}

const (
	// maxSource bounds a project's files, in bytes, and maxFiles how many they are.
	maxSource = 512 << 20
	maxFiles  = 100_000
	// saidBytes of what a compiler, or a node that does not come up, has printed are in
	// the error: the last.
	saidBytes = 64 << 10
	// compilerOrphan is how long a compiler runs on without the plugin: for a
	// connection that is lost and made again.
	compilerOrphan = 5 * time.Second
)

// build returns the directory with what a source is compiled to. What was compiled
// before is not compiled again, and what is being compiled is waited for.
func (s *Strategy) build(ctx context.Context, spec sdk.SandboxSpec, n Node, from source, sys *system) (string, error) {
	stage, err := s.stage()
	if err != nil {
		return "", err
	}
	var taken atomic.Bool // the stage is the compiler's
	defer func() {
		if !taken.Swap(true) {
			_ = os.RemoveAll(stage)
		}
	}()
	src := filepath.Join(stage, "src")
	words := []string{string(from.kind), sys.release, sys.elixir, sys.bin, s.version, releaseFile, string(mixExport), string(mixVendored), string(exsModules)}
	switch from.kind {
	case script, module:
		if err := os.Mkdir(src, 0o700); err != nil {
			return "", err
		}
		if from.kind == script {
			words = append(words, s.mainFile(spec.ID)) // what it is called in its code
		}
		err = copyFile(from.path, filepath.Join(src, filepath.Base(from.path)))
	case release, modules:
		err = copyTree(from.path, src, from.within, nil)
	default:
		err = copyTree(from.path, src, from.within, notSource)
		if err == nil && from.kind == rebar3 {
			err = checkOut(from, src)
		}
	}
	if err != nil {
		return "", fmt.Errorf("copy the source: %w", err)
	}
	hash, err := hashTree(src, append(words, s.environ(n, sys)...)...)
	if err != nil {
		return "", err
	}
	made := filepath.Join(s.dir, cacheDir, hash)
	return made, s.have(ctx, hash, spec.ID, from.shown, func(ctx context.Context) error {
		if _, err := os.Stat(made); err == nil {
			now := time.Now()
			return os.Chtimes(made, now, now) // used last
		}
		if taken.Swap(true) {
			return errGaveUp
		}
		defer os.RemoveAll(stage)
		return s.make(ctx, stage, made, hash, spec, n, from, sys)
	})
}

// make makes the directory made of the source in stage.
func (s *Strategy) make(ctx context.Context, stage, made, hash string, spec sdk.SandboxSpec, n Node, from source, sys *system) error {
	next, err := s.stage()
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	to := filepath.Join(next, "out")
	switch from.kind {
	case release:
		err = assemble(filepath.Join(stage, "src"), to, s.environ(n, sys), sys)
	case modules:
		err = os.Rename(filepath.Join(stage, "src"), to)
	default:
		err = s.compile(ctx, stage, to, hash, spec, n, from, sys)
	}
	if err != nil {
		return err
	}
	return s.keep(to, made)
}

// keep moves what was compiled to where it is found from now on.
func (s *Strategy) keep(to, made string) error {
	if err := os.Rename(to, made); err != nil {
		if _, there := os.Stat(made); there != nil { // else another process of this plugin was faster
			return fmt.Errorf("keep what was compiled: %w", err)
		}
	}
	s.evict(filepath.Base(made))
	return nil
}

// compile makes the directory to of the sources in stage.
func (s *Strategy) compile(ctx context.Context, stage, to, hash string, spec sdk.SandboxSpec, n Node, from source, sys *system) error {
	ctx, cancel := context.WithTimeout(ctx, n.CompileTimeout)
	defer cancel()
	id := hash[:16] + "-" + filepath.Base(stage)
	home := keeper.Home(filepath.Join(s.dir, buildsDir), id)
	out := filepath.Join(home, "out")
	ebin := filepath.Join("out", "lib", "main", "ebin")
	if from.kind == mix {
		if err := s.compiledDeps(ctx, stage, spec, n, sys); err != nil && ctx.Err() != nil {
			return fmt.Errorf("compile %s: stopped after %v, with its dependencies", from.shown, n.CompileTimeout)
		}
	}
	if err := os.MkdirAll(filepath.Join(stage, ebin), 0o700); err != nil {
		return err
	}
	env := s.environ(n, sys)
	var command []string
	tool := func(name string, text []byte) (string, error) {
		return filepath.Join(home, name), os.WriteFile(filepath.Join(stage, name), text, 0o600)
	}
	switch from.kind {
	case module:
		command = []string{filepath.Join(sys.bin, "erlc"), "-o", filepath.Join(home, ebin), "+debug_info", filepath.Base(from.path)}
	case script:
		file, err := tool("exs_modules.exs", exsModules)
		if err != nil {
			return err
		}
		command = []string{filepath.Join(sys.bin, "elixir"), file, filepath.Base(from.path), s.mainFile(spec.ID), filepath.Join(home, ebin)}
	case mix:
		file, err := tool("export.exs", mixExport)
		if err != nil {
			return err
		}
		env = append(env, "MIX_BUILD_PATH="+out, "DEBUGHOST_EXPORT="+out)
		mix, err := tool("mix.exs", mixVendored)
		if err != nil {
			return err
		}
		command = mixRun(sys, mix, file)
		env = append(env, s.mixEnviron(n, sys)...)
	case rebar3:
		rebar, err := s.rebar3(sys)
		if err != nil {
			return err
		}
		env = append(env, "REBAR_BASE_DIR="+filepath.Join(home, "rebar"), "REBAR_CACHE_DIR="+filepath.Join(home, "cache"))
		command = []string{rebar, "compile"}
	}
	return s.runCompiler(ctx, hash, from.shown, n, s.compiler(id, stage, home, command, env, spec, n, sys), func() error {
		if from.kind == rebar3 {
			return collectRebar3(home, to)
		}
		return copyTree(out, to, home, []string{".mix"})
	})
}

// runCompiler has the keeper run a compiler, and what it has made collected before all of
// it is removed.
func (s *Strategy) runCompiler(ctx context.Context, hash, shown string, n Node, k keeper.Spec, collect func() error) error {
	_, err := s.builds.Create(ctx, k)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("compile %s: stopped after %v, before it had begun", shown, n.CompileTimeout)
	}
	if err != nil {
		return fmt.Errorf("compile %s: %w", shown, err)
	}
	s.compiles(hash, k.ID)
	defer func() {
		s.compiles(hash, "")
		s.destroyCompiler(k.ID)
	}()
	exit, err := s.builds.Wait(ctx, k.ID)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("compile %s: stopped after %v%s", shown, n.CompileTimeout, s.tail(context.Background(), s.builds, k.ID))
	case err != nil:
		return fmt.Errorf("compile %s: %w", shown, err)
	case exit.Code != 0 || exit.Signal != 0 || exit.Reason != "":
		return fmt.Errorf("compile %s (%s)%s", shown, exitText(exit), s.tail(ctx, s.builds, k.ID))
	}
	if err := collect(); err != nil {
		return fmt.Errorf("keep what was compiled: %w", err)
	}
	return nil
}

// destroyCompiler ends a compiler, also when the time of who used it is over.
func (s *Strategy) destroyCompiler(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	_ = s.builds.Destroy(ctx, id)
}

// mixRun has a file run in a project that is compiled for that, by a Mix that goes by
// mixVendored.
func mixRun(sys *system, mix, file string) []string {
	return []string{filepath.Join(sys.bin, "elixir"), mix, "run", "--no-start", file}
}

// mixEnviron tells Mix of rebar3, which some dependencies are compiled by.
func (s *Strategy) mixEnviron(n Node, sys *system) []string {
	rebar, err := s.rebar3(sys)
	if _, set := n.Env["MIX_REBAR3"]; set || err != nil {
		return nil
	}
	return []string{"MIX_REBAR3=" + rebar}
}

// compiler is what the keeper of compilers is to run, in a home that is made in stage.
func (s *Strategy) compiler(id, stage, home string, command, env []string, spec sdk.SandboxSpec, n Node, sys *system) keeper.Spec {
	if !n.Network {
		env = append(env, "HEX_OFFLINE=1", "REBAR_OFFLINE=1")
	}
	return keeper.Spec{
		ID: id, Home: stage, Dir: filepath.Join(home, "src"), Command: command, Env: env, Limits: spec.Limits, Orphan: compilerOrphan,
		LogSize: s.config.LogSize, LogRate: s.config.LogRate, View: s.view(n, sys, !n.Network),
	}
}

// gone is behind the name of what is being removed: no half of it is ever used.
const gone = ".gone"

// evict removes what was used least until the rest is within the bound. Nobody runs
// from it: each node has a copy.
func (s *Strategy) evict(keep string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, cacheDir))
	type built struct {
		dir  string
		used time.Time
		size int64
	}
	var all []built
	var total int64
	for _, e := range entries {
		b := built{dir: filepath.Join(s.dir, cacheDir, e.Name())}
		if strings.HasSuffix(e.Name(), gone) { // of one who was killed
			_ = os.RemoveAll(b.dir)
			continue
		}
		if info, err := e.Info(); err == nil {
			b.used = info.ModTime()
		}
		_ = filepath.WalkDir(b.dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					b.size += info.Size()
				}
			}
			return nil
		})
		if total += b.size; e.Name() != keep {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b built) int { return a.used.Compare(b.used) })
	for _, b := range all {
		if total <= s.config.CacheSize {
			return
		}
		s.cache.Lock()
		err := os.Rename(b.dir, b.dir+gone)
		s.cache.Unlock()
		if err == nil && os.RemoveAll(b.dir+gone) == nil {
			total -= b.size
		}
	}
}

// appsIn are the applications in the file apps of what was made, in which order they
// are to be started.
func appsIn(made string) []string {
	text, err := os.ReadFile(filepath.Join(made, appsFile))
	if err != nil {
		return nil
	}
	_, list, _ := strings.Cut(string(text), "[")
	list, _, _ = strings.Cut(list, "]")
	var apps []string
	for app := range strings.SplitSeq(list, ",") {
		if app = strings.TrimSpace(app); appSyntax.MatchString(app) {
			apps = append(apps, app)
		}
	}
	return apps
}

func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe by now
	if err != nil {
		return err
	}
	return copyOpened(in, to)
}

// copyOpened copies a file, and closes it.
func copyOpened(in *os.File, to string) error {
	defer in.Close()
	from := in.Name()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", from)
	case info.Size() > maxSource:
		return fmt.Errorf("%s has more than %d MB", from, maxSource>>20)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|info.Mode().Perm()&0o100)
	if err != nil {
		return err
	}
	if size, copyErr := io.Copy(out, io.LimitReader(in, maxSource+1)); copyErr != nil || size > maxSource {
		err = cmp.Or(copyErr, fmt.Errorf("%s has more than %d MB", from, maxSource>>20))
	}
	return errors.Join(err, out.Close())
}

// copyTree copies the files of a directory. Links to what is within a root around it
// are followed, for what they lead to may be gone later; others are refused, also when
// they are made while it copies.
func copyTree(from, to, within string, without []string) error {
	top, err := filepath.EvalSymlinks(within)
	if err != nil {
		return err
	}
	if from, err = filepath.EvalSymlinks(from); err != nil {
		return err
	}
	start, err := filepath.Rel(top, from)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer root.Close()
	c := &treeCopy{root: root, top: top, without: without}
	return c.dir(start, to, 0)
}

type treeCopy struct {
	root    *os.Root
	top     string
	without []string
	files   int
	size    int64
}

// dir copies a directory of the root, by its path in there.
func (c *treeCopy) dir(from, to string, depth int) error {
	if depth > 100 {
		return fmt.Errorf("%s is too deep", filepath.Join(c.top, from))
	}
	d, err := c.root.Open(from)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(c.without, e.Name()) && (depth == 0 || strings.HasPrefix(e.Name(), ".")) {
			continue
		}
		name, err := c.end(filepath.Join(from, e.Name()), e)
		if errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink != 0 {
			continue
		} else if err != nil {
			return err
		}
		info, err := c.root.Stat(name)
		if err != nil {
			return err
		}
		if c.files, c.size = c.files+1, c.size+info.Size(); c.files > maxFiles || c.size > maxSource {
			return fmt.Errorf("%s has more than %d files or %d MB", c.top, maxFiles, maxSource>>20)
		}
		into := filepath.Join(to, e.Name())
		switch {
		case info.IsDir():
			err = c.dir(name, into, depth+1)
		case info.Mode().IsRegular():
			var f *os.File
			if f, err = c.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
				err = copyOpened(f, into)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end is where an entry leads, as a path in the root.
func (c *treeCopy) end(name string, e fs.DirEntry) (string, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return name, nil
	}
	full := filepath.Join(c.top, name)
	at, err := filepath.EvalSymlinks(full)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(c.top, at)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is a link to %s, which is outside of %s", full, at, c.top)
	}
	return rel, nil
}

// hashTree is a hash of a directory's files and of some words.
func hashTree(dir string, words ...string) (string, error) {
	h := sha256.New()
	part := func(text string) { fmt.Fprintf(h, "%d:%s", len(text), text) }
	for _, w := range words {
		part(w)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		part(strings.TrimPrefix(path, dir))
		fmt.Fprintf(h, "%v %d:", info.Mode(), info.Size())
		_, err = io.Copy(h, f)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
