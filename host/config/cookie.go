package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/debughost/debughost/erl/dist"
)

// CookieFor reads the cookie for a node: from the file of the first rule whose
// pattern matches, else from cookie_file, else from where OTP keeps the user's
// cookie: $HOME/.erlang.cookie or, where that is missing, .erlang.cookie in
// erlang in the user's configuration directory.
//
// The file is read anew each time, so that a changed cookie is used for the
// next attempt to attach. No error contains any of its content.
func (t *Targets) CookieFor(node string) (dist.Cookie, error) {
	_, c, err := t.FindCookie(node)
	return c, err
}

// FindCookie is CookieFor, and tells the file too; "" where none was found.
func (t *Targets) FindCookie(node string) (path string, c dist.Cookie, err error) {
	path = t.CookieFile
	for _, rule := range t.Cookies {
		if Match(rule.Nodes, node) {
			path = rule.File
			break
		}
	}
	if path == "" {
		return userCookie(os.Getenv)
	}
	c, err = readCookie(path)
	return path, c, err
}

func userCookie(getenv func(string) string) (string, dist.Cookie, error) {
	var places []string
	if home := getenv("HOME"); home != "" {
		places = append(places, filepath.Join(home, ".erlang.cookie"))
	}
	// filename:basedir(user_config, "erlang")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		places = append(places, filepath.Join(dir, "erlang", ".erlang.cookie"))
	} else if home := getenv("HOME"); home != "" {
		places = append(places, filepath.Join(home, ".config", "erlang", ".erlang.cookie"))
	}
	for _, place := range places {
		c, err := readCookie(place)
		if !errors.Is(err, fs.ErrNotExist) {
			return place, c, err
		}
	}
	if len(places) == 0 {
		return "", dist.Cookie{}, errors.New("find Erlang cookie: HOME is not set (set cookie_file in [targets])")
	}
	return "", dist.Cookie{}, fmt.Errorf("find Erlang cookie: none in %s (copy the target's there with mode 0400, or set cookie_file in [targets])", strings.Join(places, " or "))
}

// maxCookie bounds what is read of a cookie file. OTP has no bound; a cookie
// is an atom to it, which has 255 characters.
const maxCookie = 4096

// readCookie reads a cookie file as OTP's auth module does: printable ASCII,
// spaces included, up to a line end, after which only line ends and spaces may
// follow.
func readCookie(path string) (dist.Cookie, error) {
	f, err := openSecret(path)
	if err != nil {
		return dist.Cookie{}, fmt.Errorf("read cookie file: %w", err)
	}
	defer f.Close()
	return cookieIn(f, path)
}

// SandboxCookie reads the cookie file of a sandbox. What runs in the sandbox may
// have replaced it: a link is not followed, and nothing but a regular file is read.
func SandboxCookie(path string) (dist.Cookie, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) // a FIFO would block
	if err != nil {
		return dist.Cookie{}, fmt.Errorf("read cookie file of a sandbox: %s: %w", path, cause(err))
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return dist.Cookie{}, fmt.Errorf("read cookie file of a sandbox: %s: %w", path, cause(err))
	case !info.Mode().IsRegular():
		return dist.Cookie{}, fmt.Errorf("read cookie file of a sandbox: %s: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return dist.Cookie{}, fmt.Errorf("read cookie file of a sandbox: %s: mode %04o, and it must be accessible by its owner only", path, info.Mode().Perm())
	}
	return cookieIn(f, path)
}

func cookieIn(f io.Reader, path string) (dist.Cookie, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxCookie+1))
	if err != nil {
		return dist.Cookie{}, fmt.Errorf("read cookie file: %w", err)
	}
	n := 0
	for n < len(data) && ' ' <= data[n] && data[n] <= '~' {
		n++
	}
	switch rest := strings.Trim(string(data[n:]), "\r\n "); {
	case len(data) > maxCookie:
		return dist.Cookie{}, fmt.Errorf("read cookie file %s: longer than %d bytes", path, maxCookie)
	case rest != "":
		return dist.Cookie{}, fmt.Errorf("read cookie file %s: bad characters in cookie", path)
	case n == 0:
		return dist.Cookie{}, fmt.Errorf("read cookie file %s: it is empty", path)
	}
	return dist.NewCookie(string(data[:n])), nil
}

// openSecret opens a file that only its owner can access, as OTP wants it of a
// cookie file.
func openSecret(path string) (*os.File, error) {
	info, err := os.Stat(path) // a FIFO would block the open
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	if info, err = f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s: mode %04o, and it must be accessible by its owner only (chmod 400 it)", path, info.Mode().Perm())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
