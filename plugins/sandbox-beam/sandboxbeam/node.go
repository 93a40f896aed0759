//go:build unix

package sandboxbeam

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

//go:generate sh boot/build.sh

//go:embed boot/*.beam
var bootBeams embed.FS

// The files of a node in its home.
const (
	cookieFile  = "cookie" // its cookie
	specFile    = "spec"   // what its boot module is to do
	portFile    = "port"   // where it listens; it writes that
	readyFile   = "ready"  // it is up
	bootDir     = "boot"   // on its code path
	buildDir    = "build"  // what its source was made into
	scriptFile  = "main.exs"
	configFile  = "config.json" // of the sandbox
	kindFile    = "kind"        // of its source
	stateFile   = "states"      // a snapshot that is to be put back
	appsFile    = "apps"        // in what a source is made into
	statesTerm  = "states.term" // there, of one that was taken from a node
	releaseFile = "release"     // there, of a release: its name and version
)

const (
	patience  = time.Second
	readyPoll = 5 * time.Millisecond
	dumpBytes = 16 << 20
)

var appSyntax = regexp.MustCompile(`^[a-z][a-zA-Z0-9_@]*$`)

func (s *Strategy) home(id string) string { return keeper.Home(filepath.Join(s.dir, nodesDir), id) }

// aside is a file about a node that the node does not see, and that is removed with its
// home. What is in the home the node may have replaced, also by a link to what it does
// not see itself.
func (s *Strategy) aside(id, file string) string {
	return filepath.Join(filepath.Dir(s.home(id)), file)
}

// cookie is the file that debughost reads a node's cookie from. With a link in the place
// of the one in its home the node would hear the handshake with another cookie.
func (s *Strategy) cookie(id string) string { return s.aside(id, cookieFile) }

// create starts a node and returns when it is up, with the states of a snapshot unless
// that is nil. Of one that fails nothing is left.
func (s *Strategy) create(ctx context.Context, spec sdk.SandboxSpec, n Node, states io.Reader) (h handle, err error) {
	for _, app := range n.Apps {
		if !appSyntax.MatchString(app) {
			return h, sdk.Invalid("apps", fmt.Sprintf("%q is not an application's name", app))
		}
	}
	opened, err := s.open(ctx, spec, n)
	if err != nil {
		return h, err
	}
	defer opened.close()
	stage, err := s.stage()
	if err != nil {
		return h, err
	}
	defer os.RemoveAll(stage)
	h.Node, err = s.furnish(ctx, stage, spec, n, opened, states)
	if err != nil {
		return h, err
	}
	k, err := s.command(stage, spec, n, opened.sys, h.Node)
	if err != nil {
		return h, err
	}
	aside := map[string][]byte{}
	for _, file := range []string{cookieFile, kindFile, configFile, scriptFile} {
		if aside[file], err = os.ReadFile(filepath.Join(stage, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return h, err
		}
	}
	if h.Token, err = s.nodes.Create(ctx, k); err != nil {
		return h, err
	}
	for file, text := range aside {
		if text != nil && err == nil {
			err = os.WriteFile(s.aside(spec.ID, file), text, 0o600)
		}
	}
	if err == nil {
		err = s.ready(ctx, spec.ID)
	}
	if err != nil {
		return h, errors.Join(err, s.nodes.Destroy(context.WithoutCancel(ctx), spec.ID))
	}
	return h, nil
}

// opened is a source that can be made into something, with the system that is to do it.
type opened struct {
	source
	sys *system
	dir string // of the unpacked bundle; empty: there is none
}

func (o *opened) close() {
	if o.dir != "" {
		_ = os.RemoveAll(o.dir)
	}
}

// open finds the source of a sandbox, and the system for it.
func (s *Strategy) open(ctx context.Context, spec sdk.SandboxSpec, n Node) (_ *opened, err error) {
	o := &opened{}
	if spec.Bundle != "" {
		if o.dir, err = s.stage(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if o.source, err = open(spec, n, filepath.Join(o.dir, "bundle")); err != nil {
		return nil, err
	}
	if o.sys, err = s.system(ctx, n.OTP); err != nil {
		return nil, err
	}
	if o.sys.elixir == "" && (o.kind == script || o.kind == mix) {
		return nil, sdk.WithHint(fmt.Errorf("%s needs Elixir, and there is none beside %s", o.shown, filepath.Join(o.sys.bin, "erl")), "install it there, or name another directory in otp of the section of "+Name)
	}
	return o, nil
}

// mainFile is what a script is called in its node.
func (s *Strategy) mainFile(id string) string { return filepath.Join(s.home(id), scriptFile) }

// furnish puts into a directory what is to be in the node's home.
func (s *Strategy) furnish(ctx context.Context, dir string, spec sdk.SandboxSpec, n Node, o *opened, states io.Reader) (name string, err error) {
	run := make([]byte, 4)
	cookie := make([]byte, 16)
	_, _ = rand.Read(run)
	_, _ = rand.Read(cookie)
	name = strings.Map(func(r rune) rune {
		if r == '.' {
			return '_'
		}
		return r
	}, spec.ID) + "-" + hex.EncodeToString(run) + "@127.0.0.1"
	apps, file := slices.Clone(n.Apps), "none"
	switch o.kind {
	case empty:
	case script:
		if err := copyFile(o.path, filepath.Join(dir, scriptFile)); err != nil {
			return "", err
		}
		file = binary(s.mainFile(spec.ID))
	default:
		to := filepath.Join(dir, buildDir)
		if err := s.built(ctx, to, spec, n, o); err != nil {
			return "", err
		}
		apps = append(appsIn(to), apps...)
	}
	if o.sys.elixir != "" && o.kind != module {
		apps = append([]string{"elixir"}, apps...)
	}
	for i, a := range apps {
		apps[i] = "'" + a + "'"
	}
	restored, err := putStates(dir, n, states)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("#{apps => [%s], script => %s, start => %s, patience => %d, states => %s}.\n",
		strings.Join(apps, ","), file, binary(n.Start), s.patience.Milliseconds(), restored)
	if err := os.Mkdir(filepath.Join(dir, bootDir), 0o700); err != nil {
		return "", err
	}
	config, err := json.Marshal(n)
	if err != nil {
		return "", err
	}
	files := map[string][]byte{cookieFile: []byte(hex.EncodeToString(cookie)), specFile: []byte(text), kindFile: []byte(o.kind), configFile: config}
	beams, err := bootBeams.ReadDir("boot")
	if err != nil {
		return "", err
	}
	for _, b := range beams {
		if files[filepath.Join(bootDir, b.Name())], err = bootBeams.ReadFile("boot/" + b.Name()); err != nil {
			return "", err
		}
	}
	for file, data := range files {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return "", err
		}
	}
	return name, nil
}

// built makes a directory with what a source is made into.
func (s *Strategy) built(ctx context.Context, to string, spec sdk.SandboxSpec, n Node, o *opened) error {
	for attempt := 0; ; attempt++ {
		made, err := s.build(ctx, spec, n, o.source, o.sys)
		if err != nil {
			return err
		}
		s.cache.RLock()
		err = copyTree(made, to, made, nil)
		s.cache.RUnlock()
		if !errors.Is(err, fs.ErrNotExist) || attempt == 2 {
			return err
		}
		if err := os.RemoveAll(to); err != nil { // it was evicted meanwhile
			return err
		}
	}
}

// binary writes a text as a term of Erlang, whatever is in it.
func binary(text string) string {
	var b strings.Builder
	b.WriteString("<<")
	for i := range len(text) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", text[i])
	}
	b.WriteString(">>")
	return b.String()
}

// command is what the keeper is to run.
func (s *Strategy) command(stage string, spec sdk.SandboxSpec, n Node, sys *system, name string) (keeper.Spec, error) {
	home := s.home(spec.ID)
	command := []string{
		filepath.Join(sys.bin, "erl"), "-name", name, "-start_epmd", "false", "-epmd_module", "debughost_sandbox",
		"-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-pa", filepath.Join(home, bootDir),
	}
	ebins, err := fs.Glob(os.DirFS(stage), buildDir+"/lib/*/ebin")
	if err != nil {
		return keeper.Spec{}, err
	}
	for _, ebin := range ebins {
		command = append(command, "-pa", filepath.Join(home, ebin))
	}
	mix, err := hasMix(stage)
	if err != nil {
		return keeper.Spec{}, err
	}
	for _, ebin := range sys.ebins {
		if mix || filepath.Base(filepath.Dir(ebin)) != "mix" {
			command = append(command, "-pa", ebin)
		}
	}
	if _, err := os.Stat(filepath.Join(stage, buildDir, "sys.config")); err == nil {
		command = append(command, "-config", filepath.Join(home, buildDir, "sys"))
	}
	flags, err := emulatorFlags(stage)
	if err != nil {
		return keeper.Spec{}, err
	}
	env, err := released(stage, home, name, n.Env)
	if err != nil {
		return keeper.Spec{}, err
	}
	command = append(command, flags...)
	command = append(command, "-s", "debughost_sandbox", "boot", "-noinput")
	command = append(command, n.Args...) // behind, for they may end with what erl is not to read
	return keeper.Spec{
		ID: spec.ID, Command: command, Home: stage, Limits: spec.Limits, Orphan: spec.Orphan, LogSize: s.config.LogSize, LogRate: s.config.LogRate,
		View: s.view(n, sys, false), // it is dialled from outside
		Env:  append(append(s.environ(n, sys), env...), "DEBUGHOST_SANDBOX="+home, "ERL_CRASH_DUMP="+filepath.Join(home, "erl_crash.dump"), fmt.Sprint("ERL_CRASH_DUMP_BYTES=", dumpBytes)),
	}, nil
}

// hasMix tells whether a node has Mix at hand: a script may install its dependencies by it,
// while applications, which in production do without, take its being there for a project
// that is being worked at, and ask it for that. Those that name it have it.
func hasMix(stage string) (bool, error) {
	if _, err := os.Stat(filepath.Join(stage, buildDir, appsFile)); err != nil {
		return true, nil
	}
	found, err := fs.Glob(os.DirFS(stage), buildDir+"/lib/*/ebin/*.app")
	if err != nil {
		return false, err
	}
	for _, f := range found {
		text, err := os.ReadFile(filepath.Join(stage, f))
		if err != nil {
			return false, err
		}
		for _, m := range appLists.FindAllSubmatch(text, -1) {
			if mixWord.Match(m[1]) {
				return true, nil
			}
		}
	}
	return false, nil
}

var (
	// {applications,[kernel,stdlib]} of an .app file.
	appLists = regexp.MustCompile(`\{\s*(?:included_)?applications\s*,\s*\[([^\]]*)\]`)
	mixWord  = regexp.MustCompile(`(?:^|[\s,])mix(?:$|[\s,])`)
)

// environ is what the node and the compiler have in common.
func (s *Strategy) environ(n Node, sys *system) []string {
	env := []string{"PATH=" + sys.bin + string(filepath.ListSeparator) + s.config.Path}
	for _, key := range slices.Sorted(maps.Keys(n.Env)) {
		env = append(env, key+"="+n.Env[key])
	}
	return env
}

// ready waits until the node is up.
func (s *Strategy) ready(ctx context.Context, id string) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan sdk.SandboxExit, 1)
	go func() {
		if exit, err := s.nodes.Wait(waiting, id); err == nil {
			ended <- exit
		}
	}()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	file := filepath.Join(s.home(id), readyFile)
	for {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the node does not come up: %w%s", ctx.Err(), s.tail(context.WithoutCancel(ctx), s.nodes, id))
		case exit := <-ended:
			return fmt.Errorf("the node ended before it was up (%s)%s", exitText(exit), s.tail(ctx, s.nodes, id))
		}
	}
}

func exitText(e sdk.SandboxExit) string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.Signal != 0:
		return fmt.Sprintf("signal %d", e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// tail is the end of a log, to be put behind an error.
func (s *Strategy) tail(ctx context.Context, c *keeper.Client, id string) string {
	var said output
	_ = c.Logs(ctx, id, sdk.LogOptions{}, func(l sdk.LogLine) error {
		said.add(l.Line)
		return nil
	})
	return behind(said.String())
}

// behind is what was printed, to be put behind an error: a colon and the lines, from a
// new one on where they are several.
func behind(text string) string {
	switch {
	case text == "":
		return ""
	case strings.Contains(text, "\n"):
		return ":\n" + text
	}
	return ": " + text
}

// output is what was printed last.
type output struct {
	text []byte
	left int // lines before
}

func (o *output) add(line []byte) {
	o.text = append(append(o.text, line...), '\n')
	for len(o.text) > saidBytes {
		o.text = o.text[bytes.IndexByte(o.text, '\n')+1:]
		o.left++
	}
}

// String has no empty lines at its ends; what is indented stays so.
func (o *output) String() string {
	text := strings.TrimRight(strings.TrimLeft(string(o.text), "\n"), " \n")
	if o.left > 0 {
		text = fmt.Sprintf("[debughost: %d lines are left out here]\n%s", o.left, text)
	}
	return text
}
