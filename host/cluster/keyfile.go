package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile bounds what is read of a key file.
const maxKeyFile = 64 << 10

// OpenRing reads a key file that only its owner can access. Later changes of
// the ring are written to it.
func OpenRing(path string) (*Ring, error) {
	keys, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("read cluster key file %s: %w", path, err)
	}
	return newRing(path, keys...), nil
}

// CreateKeyFile makes a new key and writes a key file that must not exist yet,
// with mode 0400's next of kin, 0600: the ring is written back when it changes.
func CreateKeyFile(path string) (Key, error) {
	k := NewKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("create cluster key file %s: it exists already (an old key would be lost with it)", path)
	}
	if err == nil {
		_, err = f.Write(FormatKeys([]Key{k}))
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}
	if err != nil {
		return Key{}, fmt.Errorf("create cluster key file: %w", err)
	}
	return k, nil
}

func readKeyFile(path string) ([]Key, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	return ParseKeys(data)
}

// readSecret reads a file that only its owner can access.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path) // a FIFO would block the open
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, reason(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("mode %04o, and it must be accessible by its owner only (chmod 600 it)", info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = fmt.Errorf("longer than %d bytes", maxKeyFile)
	}
	return data, err
}

// writeKeyFile replaces a key file: it holds all of the old content or all of
// the new, whatever happens.
func writeKeyFile(path string, keys []Key) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	// A file that is read-only says that it is not ours to write, and replacing
	// it would not ask.
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return reason(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // mode 0600
	if err != nil {
		return reason(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(FormatKeys(keys))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return reason(os.Rename(f.Name(), path))
}

// reason is a file's error without the path, which the caller has named.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
