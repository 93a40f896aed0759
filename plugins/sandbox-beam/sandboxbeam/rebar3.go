//go:build unix

package sandboxbeam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/debughost/debughost/sdk"
)

// rebar3 is where the program is: beside erl, or in the PATH of the section.
func (s *Strategy) rebar3(sys *system) (string, error) {
	for _, dir := range append([]string{sys.bin}, filepath.SplitList(s.config.Path)...) {
		if path := filepath.Join(dir, "rebar3"); filepath.IsAbs(dir) {
			if _, err := exec.LookPath(path); err == nil {
				return path, nil
			}
		}
	}
	return "", sdk.WithHint(fmt.Errorf("there is no rebar3 in %s or in PATH", sys.bin), "install it there, or have path of the section of "+Name+" lead to it")
}

// checkOut puts the dependencies that rebar3 has fetched, which are in its _build, where
// it takes them as they are, wherever they came from.
func checkOut(from source, src string) error {
	lib := filepath.Join(from.path, "_build", "default", "lib")
	deps, err := os.ReadDir(lib)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range deps {
		at, to := filepath.Join(lib, d.Name()), filepath.Join(src, "_checkouts", d.Name())
		if code, err := os.Lstat(filepath.Join(at, "src")); err != nil || !code.IsDir() {
			continue // of the project's own there are links
		}
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := copyTree(at, to, from.within, append([]string{"ebin"}, notSource...)); err != nil {
			return err
		}
	}
	return nil
}

// collectRebar3 makes of what rebar3 compiled in a home what a source is made into.
func collectRebar3(home, to string) error {
	if err := os.MkdirAll(filepath.Join(to, "lib"), 0o700); err != nil {
		return err
	}
	var apps []string
	for _, lib := range []string{"lib", "checkouts"} {
		libs, err := os.ReadDir(filepath.Join(home, "rebar", "default", lib))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, l := range libs {
			from := filepath.Join(home, "rebar", "default", lib, l.Name())
			for _, part := range []string{"ebin", "priv"} {
				at, err := filepath.EvalSymlinks(filepath.Join(from, part))
				if err != nil {
					continue
				}
				if err := os.MkdirAll(filepath.Join(to, "lib", l.Name()), 0o700); err != nil {
					return err
				}
				if err := copyTree(at, filepath.Join(to, "lib", l.Name(), part), home, nil); err != nil {
					return err
				}
			}
		}
	}
	for _, pattern := range []string{"src/*.app.src", "apps/*/src/*.app.src", "lib/*/src/*.app.src"} {
		found, err := fs.Glob(os.DirFS(filepath.Join(home, "src")), pattern)
		if err != nil {
			return err
		}
		for _, f := range found {
			apps = append(apps, strings.TrimSuffix(filepath.Base(f), ".app.src"))
		}
	}
	root, err := os.OpenRoot(home) // the project may have put a link there
	if err != nil {
		return err
	}
	defer root.Close()
	config, err := root.OpenFile(filepath.Join("src", "config", "sys.config"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		err = copyOpened(config, filepath.Join(to, "sys.config"))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeApps(to, apps)
}

// writeApps notes which applications are to be started.
func writeApps(dir string, apps []string) error {
	quoted := make([]string, 0, len(apps))
	for _, a := range apps {
		if !appSyntax.MatchString(a) {
			return fmt.Errorf("%.100q is not an application's name", a)
		}
		quoted = append(quoted, a)
	}
	return os.WriteFile(filepath.Join(dir, appsFile), []byte("["+strings.Join(quoted, ",")+"].\n"), 0o600)
}
