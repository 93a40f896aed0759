//go:build unix

package sandboxbeam

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/sdk"
)

// A reload builds the new source beside what runs, in the directory nextDir of the
// node's home, and has the node change over (boot/debughost_code.erl). When that was
// done the directory takes the place of buildDir, where the node finds modules that it
// has not loaded yet.

const (
	nextDir = "build.next"
	lastDir = "build.last"
	// versionsFile has what versions of which module there were, aside.
	versionsFile = "versions.json"
	// maxVersions are kept of one module.
	maxVersions = 20
)

// Reload implements sdk.Reloader. Its report is a Report.
func (s *Strategy) Reload(ctx context.Context, spec sdk.SandboxSpec) ([]byte, error) {
	report, err := s.reload(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("reload %.140s: %w", spec.ID, err)
	}
	return json.Marshal(report)
}

// Report is what a reload has changed.
type Report struct {
	Loaded    []ModuleChange  `json:"loaded"` // modules whose code is another now
	Added     []string        `json:"added"`
	Removed   []string        `json:"removed"`
	Processes []ProcessChange `json:"processes"` // whose callbacks are in these modules
	TookMS    int64           `json:"took_ms"`
}

// ModuleChange is a module of which another version runs now. Versions are hashes of
// its code, which are the same for all compilations of the same source.
type ModuleChange struct {
	Module string `json:"module"`
	Was    string `json:"was"`
	Is     string `json:"is"`
}

// ProcessChange is a process that was suspended for its module.
type ProcessChange struct {
	Pid        string `json:"pid"`
	Module     string `json:"module"`
	CodeChange bool   `json:"code_change"` // it was called
}

func (s *Strategy) reload(ctx context.Context, spec sdk.SandboxSpec) (*Report, error) {
	began := time.Now()
	n := defaultNode()
	if err := sdk.DecodeConfig(spec.Config, &n); err != nil {
		return nil, err
	}
	if st, err := s.nodes.Inspect(ctx, spec.ID); err != nil {
		return nil, err
	} else if st.Exit != nil {
		return nil, errors.New("it has ended")
	}
	if !s.begin(spec.ID) {
		return nil, errors.New("another reload of it is under way")
	}
	defer s.end(spec.ID)
	o, err := s.open(ctx, spec, n)
	if err != nil {
		return nil, err
	}
	defer o.close()
	home := s.home(spec.ID)
	if was, err := os.ReadFile(s.aside(spec.ID, kindFile)); err != nil {
		return nil, err
	} else if kind(was) != o.kind {
		return nil, sdk.WithHint(fmt.Errorf("it runs a source of the kind %s, and %s is one of the kind %s", was, o.shown, o.kind), "start another sandbox of it")
	}
	if o.kind == empty {
		return nil, errors.New("there is no code of yours in it")
	}
	build, next := filepath.Join(home, buildDir), filepath.Join(home, nextDir)
	if o.kind == script {
		if err := s.scriptBuild(ctx, build, spec, n, o); err != nil {
			return nil, err
		}
	}
	warm := false
	err = s.putInHome(next, func(to string) (err error) {
		if warm, err = s.warmBuild(ctx, to, spec, n, o); err == nil && !warm {
			err = s.built(ctx, to, spec, n, o)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), os.RemoveAll(next))
	}
	report, err := s.changeOver(ctx, spec.ID, build, next)
	if err != nil {
		return nil, err
	}
	report.TookMS = time.Since(began).Milliseconds()
	// It is done. What follows is for later, and may fail where there is no space.
	if o.kind == script {
		_ = replaceFile(o.path, s.aside(spec.ID, scriptFile))
	}
	_ = s.note(spec.ID, n, report)
	if !warm {
		_ = s.warmUp(spec, n, o)
	}
	return report, nil
}

// begin tells whether nobody else changes a sandbox's code.
func (s *Strategy) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes[id] {
		return false
	}
	s.changes[id] = true
	return true
}

func (s *Strategy) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.changes, id)
}

// scriptBuild makes the modules of the script that runs, which the node has nowhere on
// disk, into what it can go back to.
func (s *Strategy) scriptBuild(ctx context.Context, to string, spec sdk.SandboxSpec, n Node, o *opened) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	runs := *o
	runs.source = source{kind: script, path: s.aside(spec.ID, scriptFile), shown: "the script that runs"}
	return s.putInHome(to, func(to string) error { return s.built(ctx, to, spec, n, &runs) })
}

// putInHome puts a directory into a home in the place of what has the name. It is made
// elsewhere: who can write to the home could have it written to where a link leads.
func (s *Strategy) putInHome(at string, fill func(to string) error) error {
	stage, err := s.stage()
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	made := filepath.Join(stage, "made")
	if err := fill(made); err != nil {
		return err
	}
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	return os.Rename(made, at)
}

// changeOver has the node run what is in next instead of what is in build. It is done
// or not done, whatever becomes of who asked for it; an sdk.ErrUnsure says that it is not
// known which.
func (s *Strategy) changeOver(ctx context.Context, id, build, next string) (*Report, error) {
	ctx = context.WithoutCancel(ctx)
	answer, err := s.rpc(ctx, id, "debughost_code", "reload", etf.Map{
		{Key: etf.Atom("build"), Value: etf.Binary(build)}, {Key: etf.Atom("next"), Value: etf.Binary(next)},
	})
	var away *node.ConnectError
	switch {
	case errors.As(err, &away):
		return nil, errors.Join(err, os.RemoveAll(next))
	case err != nil:
		return nil, fmt.Errorf("%w: %s", sdk.ErrUnsure, err.Error())
	}
	done, err := toReply(answer)
	if errors.Is(err, sdk.ErrUnsure) {
		return nil, err
	} else if err != nil {
		return nil, errors.Join(err, os.RemoveAll(next))
	}
	text, err := json.Marshal(plain(done))
	if err != nil {
		return nil, err
	}
	report := &Report{}
	if err := json.Unmarshal(text, report); err != nil {
		return nil, fmt.Errorf("%w: the node answers %.200s", sdk.ErrUnsure, text)
	}
	last := filepath.Join(filepath.Dir(build), lastDir+"-"+rand.Text()[:8])
	if err = os.Rename(build, last); err == nil {
		err = os.Rename(next, build)
	}
	if err == nil {
		answer, err = s.rpc(ctx, id, "debughost_code", "paths", etf.Binary(build))
	}
	if err == nil {
		_, err = toReply(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the new code runs, and is not where it should be: %s", sdk.ErrUnsure, err.Error())
	}
	_ = os.RemoveAll(last) // else it goes with the home
	return report, nil
}

// version is one that a module has had.
type version struct {
	Version string    `json:"version"` // hash of its code
	Since   time.Time `json:"since"`
}

// moduleVersions is what there was of one module, newest last.
type moduleVersions struct {
	Module  string    `json:"module"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Was     []version `json:"was"` // newest first
}

func init() {
	operations["versions"] = func(s *Strategy, ctx context.Context, id string, raw []byte) (any, error) {
		if _, err := input[struct{}](raw); err != nil {
			return nil, err
		}
		all, err := s.versions(ctx, id)
		return map[string]any{"modules": all}, err
	}
}

// versions are those of the modules in a sandbox's build.
func (s *Strategy) versions(ctx context.Context, id string) ([]moduleVersions, error) {
	answer, err := s.rpc(ctx, id, "debughost_code", "versions", etf.Binary(filepath.Join(s.home(id), buildDir)))
	if err != nil {
		return nil, err
	}
	now, err := toReply(answer)
	if err != nil {
		return nil, err
	}
	st, err := s.nodes.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	noted := s.noted(id)
	all := []moduleVersions{}
	runs, _ := plain(now).(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		is, _ := runs[name].(string)
		m := moduleVersions{Module: strings.TrimPrefix(name, "Elixir."), Version: is, Since: st.Started, Was: []version{}}
		if had := noted[m.Module]; len(had) > 0 {
			m.Since = had[len(had)-1].Since
			for _, v := range slices.Backward(had[:len(had)-1]) {
				m.Was = append(m.Was, v)
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// noted are the versions of modules that have had more than one, oldest first.
func (s *Strategy) noted(id string) map[string][]version {
	all := map[string][]version{}
	if text, err := os.ReadFile(s.aside(id, versionsFile)); err == nil {
		_ = json.Unmarshal(text, &all) // without it there is no history
	}
	return all
}

// note keeps what a reload has changed, and the config that is in force now.
func (s *Strategy) note(id string, n Node, r *Report) error {
	all, now := s.noted(id), time.Now()
	for _, m := range r.Loaded {
		had := all[m.Module]
		if len(had) == 0 {
			st, _ := s.nodes.Inspect(context.Background(), id)
			had = []version{{Version: m.Was, Since: st.Started}}
		}
		had = append(had, version{Version: m.Is, Since: now})
		all[m.Module] = had[max(0, len(had)-maxVersions):]
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	config, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return errors.Join(writeNew(s.aside(id, versionsFile), text), writeNew(s.aside(id, configFile), config))
}

// writeNew writes a file that takes the place of what has the name.
func writeNew(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// replaceFile puts a copy of a file in the place of another.
func replaceFile(from, to string) error {
	dir, err := os.MkdirTemp(filepath.Dir(to), "new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	next := filepath.Join(dir, filepath.Base(to))
	if err := copyFile(from, next); err != nil {
		return err
	}
	return os.Rename(next, to)
}

// openRegular opens a file in a directory that a sandbox may write to.
func openRegular(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, f.Close(), fmt.Errorf("%s is not a file", file))
	}
	return f, nil
}
