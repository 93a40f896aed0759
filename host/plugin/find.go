package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// searchDirs are the directories where plugins are looked for, in order.
func (m *Manager) searchDirs() []string { return searchDirs(m.config().Dirs, m.opts.Executable) }

func searchDirs(dirs []string, executable string) []string {
	beside := filepath.Dir(executable)
	return append(append([]string{}, dirs...), beside, filepath.Join(beside, "..", "lib", "debughost", "plugins"))
}

// find returns the path of a plugin's file. The first directory that has the
// name decides, also when the file there is not fit to be run.
func find(name string, dirs []string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("find plugin %q: not a plain name", name)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = runnable(path, info)
		}
		if err != nil {
			return "", fmt.Errorf("find plugin %s: %w", name, err)
		}
		return path, nil
	}
	return "", fmt.Errorf("find plugin %s: it is in none of %s (put it there, or name its directory in [plugins] dirs)", name, strings.Join(dirs, ", "))
}

// runnable refuses files that cannot be run and those that everybody could
// have put there.
func runnable(path string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (chmod 755 it)", path)
	case mode.Perm()&0o002 != 0:
		return fmt.Errorf("%s: mode %04o lets everybody change it (chmod o-w it)", path, mode.Perm())
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(real)} {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if mode := info.Mode(); mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
			return fmt.Errorf("%s: mode %04o lets everybody replace programs there (chmod o-w it)", dir, mode.Perm())
		}
	}
	return nil
}

// verify compares a file with its checksum, sha256:<64 hex>.
func verify(path, checksum string) error {
	if checksum == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify plugin: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("verify plugin: %w", err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != checksum {
		return fmt.Errorf("verify plugin %s: its checksum is %s, and [plugins.checksums] wants %s (was it upgraded, or tampered with?)", path, got, checksum)
	}
	return nil
}
