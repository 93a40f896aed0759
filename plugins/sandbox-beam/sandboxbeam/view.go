//go:build unix

package sandboxbeam

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/debughost/debughost/plugins/internal/keeper"
)

// toolPaths are the variables with paths of what Mix and Erlang use beside their own.
var toolPaths = []string{"ERL_LIBS", "HEX_HOME", "MIX_ARCHIVES", "MIX_HOME", "MIX_REBAR3"}

// view is what a node or a compiler sees, nil for all.
func (s *Strategy) view(n Node, sys *system, noNetwork bool) *keeper.View {
	show := slices.Concat(s.config.Show, sys.roots)
	for _, key := range toolPaths {
		for _, path := range filepath.SplitList(n.Env[key]) {
			if _, err := os.Stat(path); err == nil && filepath.IsAbs(path) {
				show = append(show, path)
			}
		}
	}
	v := keeper.NewView(s.config.View, show)
	if v != nil {
		v.NoNetwork = noNetwork
	}
	return v
}

// tools are what a sandbox starts of a directory with an Erlang; they may be links.
var tools = []string{"erl", "erlc", "elixir", "mix", "rebar3"}

// rootsOf are the directories that an Erlang, and an Elixir if there is one, need to be
// seen: where their programs are, and around their libraries.
func rootsOf(bin string, libs ...string) []string {
	roots := []string{bin}
	for _, tool := range tools {
		if file, err := filepath.EvalSymlinks(filepath.Join(bin, tool)); err == nil {
			roots = append(roots, filepath.Dir(file))
		}
	}
	for _, lib := range libs {
		emulators, _ := filepath.Glob(filepath.Join(filepath.Dir(lib), "erts-*", "bin", "beam*"))
		for _, file := range emulators {
			roots = append(roots, needs(file)...)
		}
		if root := filepath.Dir(lib); root != "/" { // /lib is the system's, and shown
			roots = append(roots, root)
		}
	}
	slices.Sort(roots)
	return slices.Compact(roots)
}

// needs are the paths that a program's file names: its loader, and where its libraries
// are beside the system's. An Erlang may have been built with a system of its own.
func needs(program string) (paths []string) {
	f, err := elf.Open(program)
	if err != nil {
		return nil
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			name, _ := io.ReadAll(p.Open())
			paths = append(paths, string(bytes.TrimRight(name, "\x00")))
		}
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, _ := f.DynString(tag)
		for _, list := range lists {
			for dir := range strings.SplitSeq(list, ":") {
				paths = append(paths, strings.ReplaceAll(dir, "$ORIGIN", filepath.Dir(program)))
			}
		}
	}
	return slices.DeleteFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil || !filepath.IsAbs(path) || filepath.Clean(path) == "/"
	})
}
