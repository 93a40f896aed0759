//go:build unix

package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/debughost/debughost/sdk"
)

// Open is New for a plugin: the keeper's words go into the plugin's log, and what a
// keeper that was killed with its plugin has left is cleared up.
func Open(ctx context.Context, o Options) *Client {
	log := sdk.Logger()
	o.Log = func(warn bool, id, text string) {
		var fields []any
		if id != "" {
			fields = []any{"child", id}
		}
		if warn {
			log.Warn(text, fields...)
		} else {
			log.Info(text, fields...)
		}
	}
	c := New(o)
	if err := c.Tidy(ctx); err != nil {
		log.Warn("cannot clear up what an earlier run left", "err", err)
	}
	return c
}

// StateDir is the state directory of a plugin, absolute, since the keeper's working
// directory is another: that which the host offers, or one that is this user's.
func StateDir(ctx context.Context, plugin string) (string, error) {
	dir, ok := sdk.StateDirFrom(ctx)
	if !ok {
		var err error
		if dir, err = temporary(plugin); err != nil {
			return "", err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("use state directory: %w", err)
	}
	return dir, nil
}

// temporary is the state directory for a host that offers none. It is in a place
// where others may write, so that it has to be this user's, and closed.
func temporary(plugin string) (string, error) {
	base := filepath.Join(os.TempDir(), "debughost-"+strconv.Itoa(os.Geteuid()))
	dir := filepath.Join(base, plugin)
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	info, err := os.Lstat(base)
	if err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm() != 0o700 {
		return "", sdk.WithHint(fmt.Errorf("use state directory: %s is not a directory of this user's with mode 0700", base), "remove it")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return dir, nil
}
