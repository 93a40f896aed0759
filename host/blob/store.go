// Package blob keeps files by the hash of what is in them: the bundles and snapshots
// that the specs of children name. A member has those in its data directory that were
// uploaded to it and that it has fetched from others (Ensure).
//
// It does not know what is in a blob, nor which are needed, which Collect is told, and
// how many members have one is not its business.
//
//	s, err := blob.Open(filepath.Join(dir, "blobs"), blob.Config{Member: "a", Others: others, Conn: cluster.Conn})
//	id, size, err := s.Put(file, "")
//	path, err := s.Ensure(ctx, id) // here, or from another member
//	blob.Register(grpcServer, s, cluster.PeerName)
package blob

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
	"sync"
	"time"

	"google.golang.org/grpc"
)

const (
	// MaxSize bounds a blob, in bytes.
	MaxSize = 256 << 20
	// Grace is how long a blob is kept that nothing names.
	Grace = time.Hour

	tempPrefix = ".partial-"
)

var (
	// ErrNotFound says that there is no such blob.
	ErrNotFound = errors.New("there is no such blob")
	// ErrSilent says that who did not answer may have a blob that nobody else has. It comes
	// with an ErrNotFound.
	ErrSilent = errors.New("not all could be asked")
	// ErrTooLarge says that a blob has more than MaxSize bytes.
	ErrTooLarge = fmt.Errorf("it has more than %d MB", MaxSize>>20)
	// ErrHash says that the content is not what its id says.
	ErrHash = errors.New("its content has another hash")
	// ErrID says that a text is no id.
	ErrID = errors.New("that is no id of a blob: 64 lower-case hexadecimal digits")
)

// Config says who this member is and who may have blobs, too.
type Config struct {
	Member string
	// Others are the members that answer, without this one; it must not block.
	Others func() []string
	Conn   func(member string) (*grpc.ClientConn, error)
}

// Store is a directory with blobs. Its methods may be called from any goroutine.
type Store struct {
	dir string
	cfg Config

	mu       sync.Mutex
	fetching map[string]chan struct{} // by id: closed when that has ended
}

// Open uses a directory, which is made where there is none. What was not complete is
// removed.
func Open(dir string, cfg Config) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	for _, path := range left {
		_ = os.Remove(path)
	}
	return &Store{dir: dir, cfg: cfg, fetching: map[string]chan struct{}{}}, nil
}

// Check tells whether a text can be an id.
func Check(id string) error {
	if len(id) != hex.EncodedLen(sha256.Size) || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("%.80q: %w", id, ErrID)
	}
	return nil
}

// Put keeps what r has, and returns its id and its size. With an id that is wanted,
// another content is an ErrHash. Of what fails nothing is left.
func (s *Store) Put(r io.Reader, want string) (id string, size int64, err error) {
	if want != "" {
		if err := Check(want); err != nil {
			return "", 0, fmt.Errorf("keep blob: %w", err)
		}
	}
	f, err := os.CreateTemp(s.dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return "", 0, fmt.Errorf("keep blob: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("keep blob: %w", err)
		}
	}()
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, MaxSize+1))
	if size > MaxSize {
		err = ErrTooLarge
	}
	id = hex.EncodeToString(hash.Sum(nil))
	if err == nil && want != "" && id != want {
		err = fmt.Errorf("%w: want %s, got %s", ErrHash, want, id)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, err
	}
	if err = os.Rename(f.Name(), s.file(id)); err != nil {
		return "", 0, err
	}
	return id, size, s.syncDir()
}

// syncDir makes a rename last.
func (s *Store) syncDir() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) file(id string) string { return filepath.Join(s.dir, id) }

// Open opens a blob that is here; else it fails with ErrNotFound.
func (s *Store) Open(id string) (*os.File, error) {
	if err := Check(id); err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	f, err := os.Open(s.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", id, err)
	}
	return f, nil
}

// Has tells whether a blob is here.
func (s *Store) Has(id string) bool {
	if Check(id) != nil {
		return false
	}
	_, err := os.Stat(s.file(id))
	return err == nil
}

// path is where a blob is that is here, and stays for Grace at least.
func (s *Store) path(id string) (path string, ok bool) {
	now := time.Now()
	if err := os.Chtimes(s.file(id), now, now); errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	return s.file(id), s.Has(id)
}

// Collect removes the blobs that are not named and have not been for Grace, and tells
// how many that were.
func (s *Store) Collect(named map[string]bool) (removed int, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fmt.Errorf("remove blobs: %w", err)
	}
	now := time.Now()
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || Check(e.Name()) != nil {
			continue // it is gone, or on its way
		}
		age := now.Sub(info.ModTime())
		switch {
		case named[e.Name()] && age > Grace/2:
			_ = os.Chtimes(s.file(e.Name()), now, now)
		case !named[e.Name()] && age > Grace:
			if os.Remove(s.file(e.Name())) == nil {
				removed++
			}
		}
	}
	return removed, nil
}
