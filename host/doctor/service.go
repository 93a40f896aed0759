package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// systemUnits is where systemd looks for units, the first before the last.
var systemUnits = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// unit is the name of the service.
const unit = "debughost.service"

// maxUnit bounds what is read of a unit's file, in bytes.
const maxUnit = 1 << 20

// service looks at the credentials that systemd hands to the service: without
// one of them it does not start, and only the journal says why.
func (e *examination) service(context.Context) {
	if dir := e.Getenv("CREDENTIALS_DIRECTORY"); dir != "" { // we are the service
		if _, err := os.ReadDir(dir); err != nil {
			e.fail("credentials", err, "see LoadCredential= in the unit")
			return
		}
	}
	i := slices.IndexFunc(e.UnitDirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, unit))
		return err == nil
	})
	if i < 0 {
		e.ok("service", "debughost is not installed as a service of systemd")
		return
	}
	files := []string{filepath.Join(e.UnitDirs[i], unit)}
	for _, dir := range slices.Backward(e.UnitDirs) { // what systemctl edit writes
		more, _ := filepath.Glob(filepath.Join(dir, unit+".d", "*.conf")) // the pattern is fine
		files = append(files, more...)
	}
	credentials := map[string]string{}
	for _, file := range files {
		if err := readCredentials(file, credentials); err != nil {
			e.fail("service", err, "")
			return
		}
	}
	e.ok("service", "%s, %d credentials", files[0], len(credentials))
	for _, name := range slices.Sorted(maps.Keys(credentials)) {
		e.credential(name, credentials[name])
	}
}

// credential looks at the file that systemd reads as root.
func (e *examination) credential(name, path string) {
	at := "credential " + name
	info, err := os.Stat(path)
	hint := fmt.Sprintf("systemd does not start the service without it: install -m 400 FILE %s", path)
	switch {
	case os.IsPermission(err):
		e.add(at, Warn, "run doctor as root", "%v", err)
	case err != nil:
		e.fail(at, err, hint)
	case !info.Mode().IsRegular():
		e.add(at, Fail, hint, "%s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		e.add(at, Warn, "chmod 400 it", "%s: mode %04o lets others read it", path, info.Mode().Perm())
	default:
		e.ok(at, "%s, mode %04o", path, info.Mode().Perm())
	}
}

// readCredentials takes the lines LoadCredential=NAME:PATH of a unit's file. An
// empty one takes back those before it, as systemd has it.
func readCredentials(file string, into map[string]string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read unit: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxUnit))
	lines.Buffer(nil, maxUnit)
	for lines.Scan() {
		value, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "LoadCredential=")
		if !ok {
			continue
		}
		if value == "" {
			clear(into)
			continue
		}
		if name, path, ok := strings.Cut(value, ":"); ok && filepath.IsAbs(path) {
			into[name] = path
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read unit %s: %w", file, err)
	}
	return nil
}
