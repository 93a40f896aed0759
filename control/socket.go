package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is what fits into a sockaddr_un of Linux with its final zero.
const maxSocketPath = 107

// ParseAddr returns the socket path of an address: a path, unix:path or
// unix:///path.
func ParseAddr(addr string) (string, error) {
	fail := func(cause string) (string, error) {
		e := badRequest(fmt.Sprintf("read address %q", addr), "%s", cause)
		e.Hint = "give the path of a unix socket, as /run/debughost/api.sock"
		return "", e
	}
	path := addr
	if rest, ok := strings.CutPrefix(addr, "unix:"); ok {
		path = rest
		if strings.HasPrefix(rest, "//") {
			path = rest[2:]
			if !strings.HasPrefix(path, "/") {
				return fail("the path behind unix:// must be absolute")
			}
		}
	} else if scheme, _, ok := strings.Cut(addr, "://"); ok {
		return fail(scheme + " is not supported")
	}
	switch {
	case path == "":
		return fail("it names no socket")
	case len(path) > maxSocketPath:
		return "", tooLong(path)
	}
	return path, nil
}

func tooLong(path string) error {
	return &Error{
		Code: BadRequest, Tried: "use socket " + path,
		Cause: fmt.Sprintf("use socket %s: the path has %d bytes, a unix socket takes %d", path, len(path), maxSocketPath),
		Hint:  "choose a shorter one with --addr or --data-dir",
	}
}

// listen opens the socket for its owner alone. It removes a socket that
// another process left behind, after checking that nobody answers there, and
// nothing else.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, tooLong(path)
	}
	fail := func(err error) error { return fmt.Errorf("listen on %s: %w", path, err) }
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fail(err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fail(err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fail(errors.Unwrap(err))
	}
	// Until here the mode is the umask's; whoever slips in has no role, which
	// the gate takes from the kernel and not from the file.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fail(err)
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return &Error{
			Code: BadRequest, Tried: "listen on " + path, Cause: "there is a file that is no socket",
			Hint: "move it away or choose another path with --addr",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return &Error{
			Code: BadRequest, Tried: "listen on " + path, Cause: "another debughost answers there",
			Hint: "stop it, or give this one a --data-dir of its own",
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default: // full backlog, no permission: somebody is there
		return err
	}
}
