//go:build unix

package sandboxbeam

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/debughost/debughost/sdk"
)

var (
	// {application, "1.0", permanent}, and {application, "1.0"}, of a .rel file.
	relApp  = regexp.MustCompile(`\{\s*'?([a-z][a-zA-Z0-9_@]*)'?\s*,\s*"[^"]*"\s*(?:,\s*([a-z]+))?[^{}]*\}`)
	relErts = regexp.MustCompile(`\{\s*erts\s*,\s*"(\d+)[^"]*"\s*\}`)
)

// assemble makes of a release what a source is made into: its own applications, with
// its configuration. Those of Erlang and Elixir are the system's, which has to be at
// least as new as what the release was made with.
func assemble(from, to string, env []string, sys *system) error {
	data, err := os.ReadFile(filepath.Join(from, "releases", "start_erl.data"))
	if err != nil {
		return err
	}
	fields := strings.Fields(string(data))
	if len(fields) != 2 || !filepath.IsLocal(fields[1]) {
		return errors.New("releases/start_erl.data of the release does not name its version")
	}
	dir := filepath.Join(from, "releases", fields[1])
	rels, err := fs.Glob(os.DirFS(dir), "*.rel")
	if err != nil {
		return err
	}
	if len(rels) == 0 {
		return fmt.Errorf("there is no .rel file in releases/%s of the release", fields[1])
	}
	rel, err := os.ReadFile(filepath.Join(dir, rels[0]))
	if err != nil {
		return err
	}
	if m := relErts.FindSubmatch(rel); m != nil {
		erts, _ := strconv.Atoi(string(m[1]))
		if own, err := strconv.Atoi(sys.release); err == nil && erts+12 > own {
			return sdk.WithHint(fmt.Errorf("the release was made with OTP %d, and is to run on OTP %d", erts+12, own), "choose another with otp")
		}
	}
	var apps []string
	for _, m := range relApp.FindAllSubmatch(rel, -1) {
		name, mode := string(m[1]), string(m[2])
		if name != "erts" && mode != "load" && mode != "none" && !slices.Contains(apps, name) && !slices.Contains(sys.apps, name) {
			apps = append(apps, name)
		}
	}
	libs, err := os.ReadDir(filepath.Join(from, "lib"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "lib"), 0o700); err != nil {
		return err
	}
	for _, l := range libs {
		name, _, _ := strings.Cut(l.Name(), "-")
		if !l.IsDir() || slices.Contains(sys.apps, name) {
			continue
		}
		if err := copyTree(filepath.Join(from, "lib", l.Name()), filepath.Join(to, "lib", name), from, nil); err != nil {
			return err
		}
	}
	if err := configure(dir, to, env); err != nil {
		return err
	}
	// What its configuration is made of at each start, but not its cookie.
	if err := os.Mkdir(filepath.Join(to, "releases"), 0o700); err != nil {
		return err
	}
	if err := copyTree(dir, filepath.Join(to, "releases", fields[1]), from, nil); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(to, releaseFile), []byte(strings.TrimSuffix(rels[0], ".rel")+" "+fields[1]), 0o600),
		writeApps(to, apps),
	)
}

// configure writes a release's sys.config, which rebar3's may have as a text in which
// variables of the environment are named.
func configure(dir, to string, env []string) error {
	file := filepath.Join(to, "sys.config")
	err := copyFile(filepath.Join(dir, "sys.config"), file)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "sys.config.src"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	vars := map[string]string{}
	for _, v := range env {
		key, value, _ := strings.Cut(v, "=")
		vars[key] = value
	}
	text = variable.ReplaceAllFunc(text, func(v []byte) []byte {
		key, otherwise, _ := strings.Cut(string(v[2:len(v)-1]), ":-")
		return []byte(cmp.Or(vars[key], otherwise))
	})
	return os.WriteFile(file, text, 0o600)
}

// variable is one as rebar3's start script replaces it: ${PORT}, ${PORT:-8080}.
var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// released is what the start script of a release tells the system of it, which a runtime
// configuration may ask for, but for what is set otherwise. The cookie is not among it.
func released(stage, home, node string, set map[string]string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(stage, buildDir, releaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	name, version, _ := strings.Cut(string(text), " ")
	root := filepath.Join(home, buildDir)
	env := []string{
		"RELEASE_ROOT=" + root, "RELEASE_NAME=" + name, "RELEASE_VSN=" + version, "RELEASE_VSN_DIR=" + filepath.Join(root, "releases", version),
		"RELEASE_SYS_CONFIG=" + filepath.Join(root, "sys"), "RELEASE_TMP=" + filepath.Join(home, "tmp"), "RELEASE_COMMAND=start", "RELEASE_MODE=interactive",
		"RELEASE_DISTRIBUTION=name", "RELEASE_NODE=" + node,
	}
	return slices.DeleteFunc(env, func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		_, there := set[key]
		return there
	}), nil
}

// emulatorFlags are those of a release's vm.args that are the emulator's: +P 1000000. The
// others say what the node is called, and how it is found.
func emulatorFlags(stage string) ([]string, error) {
	found, err := fs.Glob(os.DirFS(stage), buildDir+"/releases/*/vm.args")
	if err != nil || len(found) == 0 {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(stage, found[0]))
	if err != nil {
		return nil, err
	}
	var flags []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "+") && !strings.ContainsAny(line, "'\"\\$") {
			flags = append(flags, strings.Fields(line)...)
		}
	}
	return flags, nil
}
