// Package store is a member's data directory: who may use it, the member's
// lasting identity, and small files that are replaced whole or not at all.
//
// It is not a database, and nothing here is needed for the host to work: on a
// full or read-only disk a Store answers with warnings and errors, and the
// host runs on without a memory.
//
//	dir, err := store.DefaultDir()
//	st, err := store.Open(dir)
//	var busy *store.InUseError
//	if errors.As(err, &busy) { … } // another host is running there
//	defer st.Close()
//	for _, w := range st.Warnings() { log.Warn(w) }
package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The names of the package's own files in a data directory.
const (
	memberFile = "member" // the identity: 8 hexadecimal digits
	pidFile    = "pid"    // the OS process that holds the lock
)

// Store is an open data directory. Its methods may be called from any
// goroutine; two writers of one name see one of the two win whole.
type Store struct {
	dir      string
	lock     *os.File // the directory itself, under flock; nil when it could not be opened
	wrotePid bool
	id       string
	warnings []error
}

// DefaultDir returns where a member keeps its data: $DEBUGHOST_DATA_DIR; as
// root /var/lib/debughost; else debughost in $XDG_DATA_HOME, whose default is
// ~/.local/share.
func DefaultDir() (string, error) {
	return defaultDir(os.Getenv, os.Getuid())
}

func defaultDir(getenv func(string) string, uid int) (string, error) {
	if dir := getenv("DEBUGHOST_DATA_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if uid == 0 {
		return "/var/lib/debughost", nil
	}
	// The XDG specification has a relative path ignored.
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "debughost"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "debughost"), nil
	}
	return "", errors.New("find data directory: neither HOME nor XDG_DATA_HOME is set (set DEBUGHOST_DATA_DIR or give --data-dir)")
}

// InUseError says that another host has the data directory.
type InUseError struct {
	Dir   string
	OSPid int // the other's process; 0 when it could not say
}

func (e *InUseError) Error() string {
	who := "another debughost"
	if e.OSPid != 0 {
		who += fmt.Sprintf(" (process %d)", e.OSPid)
	}
	return fmt.Sprintf("open data directory %s: %s is using it (stop it, or give this one its own --data-dir)", e.Dir, who)
}

// Open creates dir with mode 0700 where it is missing, locks it for this
// process and reads the member's identity.
//
// It fails when another process has the lock (*InUseError), when dir is not a
// directory, and when others may write to it. What a full or read-only disk
// prevents is a warning instead; see Warnings.
//
// The lock is an flock, which the kernel lets go of when the process ends in
// whatever way, so that no crash leaves a stale one.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	s := &Store{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("open data directory: %w", err)
		}
		s.warn(fmt.Errorf("create data directory: %w", err))
	} else if err := s.acquire(); err != nil {
		return nil, err
	}
	s.identify()
	return s, nil
}

// acquire takes the lock and notes who has it.
func (s *Store) acquire() error {
	f, err := os.Open(s.dir)
	if err != nil {
		s.warn(fmt.Errorf("lock data directory: %w", err))
		return nil
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("open data directory %s: mode %04o lets others write to it (chmod 700 it)", s.dir, info.Mode().Perm())
	}
	if err != nil {
		f.Close()
		return err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return &InUseError{Dir: s.dir, OSPid: s.readPid()}
	case err != nil: // a file system without locks
		f.Close()
		s.warn(fmt.Errorf("lock data directory %s: %w", s.dir, err))
		return nil
	}
	s.lock = f
	s.sweep()
	if err := s.Write(pidFile, fmt.Appendln(nil, os.Getpid())); err != nil {
		// Better no name than the wrong one.
		_ = os.Remove(s.Path(pidFile))
		s.warn(fmt.Errorf("%w (the member runs on, and keeps nothing over a restart)", err))
		return nil
	}
	s.wrotePid = true
	return nil
}

func (s *Store) readPid() int {
	b, err := s.Read(pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// identify reads the identity or makes one.
func (s *Store) identify() {
	b, err := s.Read(memberFile)
	if id := strings.TrimSpace(string(b)); err == nil && validID(id) {
		s.id = id
		return
	}
	if err == nil {
		s.warn(fmt.Errorf("read member identity %s: want 8 hexadecimal digits, got %.40q; it gets a new one", s.Path(memberFile), b))
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		s.warn(fmt.Errorf("%w; it gets a new one", err))
	}
	var raw [4]byte
	_, _ = rand.Read(raw[:]) // never fails
	s.id = hex.EncodeToString(raw[:])
	if err := s.Write(memberFile, []byte(s.id+"\n")); err != nil {
		s.warn(fmt.Errorf("keep member identity %s: %w", s.id, err))
	}
}

func validID(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 8 && strings.ToLower(s) == s
}

func (s *Store) warn(err error) { s.warnings = append(s.warnings, err) }

// Dir returns the directory's absolute path.
func (s *Store) Dir() string { return s.dir }

// MemberID returns 8 hexadecimal digits that are the same after every restart
// on this directory, unless a warning says otherwise.
func (s *Store) MemberID() string { return s.id }

// Warnings returns what did not work when the directory was opened, for the
// log.
func (s *Store) Warnings() []error { return s.warnings }

// Close gives the lock up. The Store must not be used after it.
func (s *Store) Close() error {
	if s.wrotePid {
		_ = os.Remove(s.Path(pidFile))
	}
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}
