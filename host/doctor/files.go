package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/plugin"
)

// plugins looks for the file of each topology's plugin and asks it what it is.
func (e *examination) plugins(ctx context.Context) {
	if e.cfg == nil || e.Executable == "" {
		return
	}
	if len(e.cfg.Topologies) == 0 {
		e.add("plugins", Warn, "a file without any [topologies.NAME] has the built-in one", "no topology is configured: nothing looks for nodes")
	}
	asked := map[string]bool{}
	for _, t := range e.cfg.Topologies {
		if asked[t.Strategy] {
			continue
		}
		asked[t.Strategy] = true
		name := "plugin " + t.Strategy
		seen, err := plugin.Look(ctx, t.Strategy, t.Checksum, e.cfg.Plugins.Dirs, e.Executable)
		switch {
		case err != nil:
			e.fail(name, err, "")
		case seen.Version == "":
			e.add(name, Warn, "a plugin made with the sdk says it when it is started by hand", "%s does not say what it is", seen.Path)
		default:
			e.ok(name, "%s, %s, %s", seen.Path, seen.Kind, seen.Version)
		}
	}
}

// How much room the data directory's disk should have, in bytes.
const (
	scarceRoom = 100 << 20
	noRoom     = 1 << 20
)

// dataDir looks whether a member could write there, without locking it.
func (e *examination) dataDir(context.Context) {
	const name = "data directory"
	dir := e.DataDir
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) { // it will be made
		for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			info, err = os.Stat(dir)
		}
		if err == nil && info.IsDir() && unix.Access(dir, unix.W_OK) == nil {
			e.ok(name, "%s is not there yet, and can be made", e.DataDir)
			return
		}
		e.add(name, Fail, "make it (install -d -m 700), or give another with --data-dir", "%s is not there, and cannot be made: %s is not writable", e.DataDir, dir)
		return
	}
	switch {
	case err != nil:
		e.fail(name, err, "run doctor as the user that debughost runs as")
		return
	case !info.IsDir():
		e.add(name, Fail, "give another with --data-dir", "%s is not a directory", dir)
		return
	case info.Mode().Perm()&0o022 != 0:
		e.add(name, Fail, "chmod 700 it", "%s: mode %04o lets others write to it", dir, info.Mode().Perm())
		return
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		e.add(name, Fail, "is doctor run as the user that debughost runs as? Without a directory that it can write to, debughost keeps nothing over a restart",
			"%s is not writable: %v", dir, err)
		return
	}
	var room unix.Statfs_t
	if err := unix.Statfs(dir, &room); err != nil {
		e.fail(name, fmt.Errorf("ask for the room in %s: %w", dir, err), "")
		return
	}
	free := uint64(room.Bavail) * uint64(room.Bsize)
	switch text := fmt.Sprintf("%s is writable, %s free", dir, size(free)); {
	case free < noRoom:
		e.add(name, Fail, "make room: identity, known members and audit log are kept there", "%s", text)
	case free < scarceRoom:
		e.add(name, Warn, "make room: identity, known members and audit log are kept there", "%s", text)
	default:
		e.ok(name, "%s", text)
	}
}

// size is a number of bytes in a person's units.
func size(n uint64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// clusterKey reads the key as a start would.
func (e *examination) clusterKey(context.Context) {
	if e.cfg == nil || !e.cfg.Clustered() {
		return
	}
	path := e.cfg.Cluster.KeyFile
	if path == "" {
		path = filepath.Join(e.DataDir, "cluster.key")
	}
	ring, err := cluster.OpenRing(path)
	if err != nil {
		e.fail("cluster key", err, "make one with `debughost keygen FILE` on one member, copy it to the others with mode 0600, and name it in [cluster] key_file")
		return
	}
	keys := ring.List()
	e.ok("cluster key", "%s: %d keys, %s is spoken with", path, len(keys), keys[0].ID)
}
