//go:build unix

package sandboxbeam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// The dependencies of a Mix project are compiled by themselves, before it, from nothing but
// what they are made of: so that they are not compiled again when only the project has
// changed, and are the same then. What the project's own code does while it is compiled has
// no part in what others may get.

// depsPrefix begins the names, in the cache, of compiled dependencies.
const depsPrefix = "deps-"

const shownDeps = "the dependencies" // as errors name them

// depsOf are the parts of a Mix project that its dependencies are made of: files at its
// top, such as mix.exs and what that may read, the same of an umbrella's applications,
// the config and the dependencies.
func depsOf(src string) ([]string, error) {
	var parts []string
	for _, dir := range []string{".", "apps/*"} {
		found, err := fs.Glob(os.DirFS(src), dir+"/*")
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			info, err := os.Stat(filepath.Join(src, name))
			if err != nil {
				return nil, err
			}
			base := filepath.Base(name)
			if info.Mode().IsRegular() || base == "config" || base == "deps" && dir == "." {
				parts = append(parts, filepath.Clean(name))
			}
		}
	}
	slices.Sort(parts)
	return parts, nil
}

// compiledDeps puts the compiled dependencies of the Mix project in stage/src into
// stage/out. Where that cannot be they are compiled with the project, and what is wrong is
// told then.
func (s *Strategy) compiledDeps(ctx context.Context, stage string, spec sdk.SandboxSpec, n Node, sys *system) error {
	if deps, err := os.ReadDir(filepath.Join(stage, "src", "deps")); err != nil || len(deps) == 0 {
		return nil
	}
	src := filepath.Join(stage, "src")
	parts, err := depsOf(src)
	if err != nil {
		return err
	}
	words := append([]string{sys.release, sys.elixir, sys.bin, s.version, string(mixVendored), fmt.Sprint(n.Network)}, s.environ(n, sys)...)
	for _, part := range parts {
		if part == "deps" {
			continue
		}
		hash, err := hashTree(filepath.Join(src, part))
		if err != nil {
			return err
		}
		words = append(words, part, hash)
	}
	hash, err := hashTree(filepath.Join(src, "deps"), words...)
	if err = errors.Join(err, os.MkdirAll(filepath.Join(stage, "out"), 0o700)); err != nil {
		return err
	}
	hash = depsPrefix + hash
	made, out := filepath.Join(s.dir, cacheDir, hash), filepath.Join(stage, "out", "lib")
	for attempt := 0; ; attempt++ {
		err := s.have(ctx, hash, spec.ID, shownDeps, func(ctx context.Context) error {
			if _, err := os.Stat(made); err == nil {
				now := time.Now()
				return os.Chtimes(made, now, now) // used last
			}
			next, err := s.stage()
			if err != nil {
				return err
			}
			defer os.RemoveAll(next)
			if err := copyParts(src, filepath.Join(next, "src"), parts); err != nil {
				return err
			}
			return s.compileDeps(ctx, next, made, spec, n, sys)
		})
		if err != nil {
			return err
		}
		s.cache.RLock()
		err = copyTree(made, out, made, nil)
		s.cache.RUnlock()
		if !errors.Is(err, fs.ErrNotExist) || attempt == 2 {
			return err
		}
		if err := os.RemoveAll(out); err != nil { // it was evicted meanwhile
			return err
		}
	}
}

// copyParts copies files and directories of a directory.
func copyParts(from, to string, parts []string) error {
	for _, part := range parts {
		at, into := filepath.Join(from, part), filepath.Join(to, part)
		if err := os.MkdirAll(filepath.Dir(into), 0o700); err != nil {
			return err
		}
		info, err := os.Stat(at)
		switch {
		case err != nil:
		case info.IsDir():
			err = copyTree(at, into, from, nil)
		default:
			err = copyFile(at, into)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compileDeps makes the directory made of the project in stage, which has nothing but its
// dependencies: one for each that is in deps, with what Mix notes of it.
func (s *Strategy) compileDeps(ctx context.Context, stage, made string, spec sdk.SandboxSpec, n Node, sys *system) error {
	ctx, cancel := context.WithTimeout(ctx, n.CompileTimeout)
	defer cancel()
	id := filepath.Base(made)[:len(depsPrefix)+16] + "-" + filepath.Base(stage)
	home := keeper.Home(filepath.Join(s.dir, buildsDir), id)
	if err := os.WriteFile(filepath.Join(stage, "mix.exs"), mixVendored, 0o600); err != nil {
		return err
	}
	env := append(s.environ(n, sys), "MIX_BUILD_PATH="+filepath.Join(home, "out"))
	command := []string{filepath.Join(sys.bin, "elixir"), filepath.Join(home, "mix.exs"), "debughost.deps"}
	k := s.compiler(id, stage, home, command, append(env, s.mixEnviron(n, sys)...), spec, n, sys)
	next, err := s.stage()
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	to := filepath.Join(next, "lib")
	err = s.runCompiler(ctx, filepath.Base(made), shownDeps, n, k, func() error { return collectDeps(home, to) })
	if err != nil {
		return err
	}
	return s.keep(to, made)
}

// collectDeps takes of what was compiled in a home what lies in deps.
func collectDeps(home, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	libs, err := os.ReadDir(filepath.Join(home, "out", "lib"))
	if err != nil {
		return err
	}
	for _, l := range libs {
		if info, err := os.Lstat(filepath.Join(home, "src", "deps", l.Name())); err != nil || !info.IsDir() {
			continue
		}
		if err := copyTree(filepath.Join(home, "out", "lib", l.Name()), filepath.Join(to, l.Name()), home, nil); err != nil {
			return err
		}
	}
	return nil
}
