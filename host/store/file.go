package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix marks a file that is not complete yet.
const tempPrefix = ".tmp-"

// Path returns where the small file of this name is.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

// Read returns a small file. The error is fs.ErrNotExist when there is none.
func (s *Store) Read(name string) ([]byte, error) {
	b, err := os.ReadFile(s.Path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s from data directory: %w", name, err)
	}
	return b, nil
}

// Write replaces a small file, with mode 0600. Whatever happens, power loss
// and a full disk included, the file then holds all of the old content or all
// of the new.
func (s *Store) Write(name string, data []byte) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return fmt.Errorf("write %q to data directory: not a plain file name", name)
	}
	if err := writeFile(s.dir, name, data); err != nil {
		return fmt.Errorf("write %s to data directory: %w", name, err)
	}
	return nil
}

func writeFile(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, tempPrefix+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename last. A file system that cannot do that is no reason
// to fail: the content is there.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// sweep removes what writers left that were killed. The caller has the lock.
func (s *Store) sweep() {
	left, _ := filepath.Glob(s.Path(tempPrefix + "*"))
	for _, path := range left {
		_ = os.Remove(path)
	}
}

// maxSocketDir leaves room for a file name in the 108 bytes that a Unix
// socket's path may have.
const maxSocketDir = 60

// SocketDir returns an empty directory with mode 0700 for sockets: name in the
// data directory or, when that is not writable or its path too long for
// sockets, one under the system's directory for temporary files. What an
// earlier process left there is removed. The caller removes the directory.
func (s *Store) SocketDir(name string) (string, error) {
	var errs []error
	for _, dir := range []string{
		s.Path(name),
		filepath.Join(os.TempDir(), "debughost-"+s.id+"-"+name),
	} {
		err := fmt.Errorf("path %s is longer than %d bytes", dir, maxSocketDir)
		if len(dir) <= maxSocketDir {
			err = emptyDir(dir)
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("make socket directory: %w", errors.Join(errs...))
}

// emptyDir makes dir anew. Since it ends with a Mkdir, the directory is ours
// even where others may create files beside it.
func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}
