//go:build unix

package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper is started as PROGRAM keeper DIR, which is what a list of processes
// shows, with its options in the environment.
const (
	mainWord   = "keeper"
	optionsEnv = "DEBUGHOST_KEEPER"
	// readyFD is where it says that it serves, or why it does not.
	readyFD   = 3
	readyWord = "ready"
)

// Main is called first by the main function of a program that uses keepers. In a
// process that was started to be one it returns true when that is over.
func Main() bool {
	if len(os.Args) != 3 || os.Args[1] != mainWord || os.Getenv(optionsEnv) == "" {
		return false
	}
	ready := os.NewFile(readyFD, "ready")
	if err := serve(ready, os.Args[2], os.Getenv(optionsEnv)); err != nil {
		_, _ = ready.WriteString(err.Error())
		os.Exit(1)
	}
	return true
}

// serve is a keeper's life.
func serve(ready *os.File, dir, options string) error {
	o := serverOptions{Dir: dir}
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	_ = os.Unsetenv(optionsEnv)
	syscall.CloseOnExec(readyFD)
	debug.SetGCPercent(50) // it is idle, and small, most of the time
	outside, err := o.Isolation.settle()
	if err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	term := catchSignals()
	s := newServer(o)
	s.outside = outside
	var groupErr error
	if !o.NoCgroup {
		s.groups, groupErr = openGroups(dir)
	}
	s.sweep()
	l, err := listen(dir)
	if err != nil {
		return err
	}
	if _, err := ready.WriteString(readyWord); err != nil {
		return err
	}
	_ = ready.Close()
	if groupErr != nil {
		s.note = groupErr.Error()
	}
	s.work.Go(func() { s.endOnSignal(term) })
	s.run(l)
	return nil
}

// lock makes this the only keeper of its directory. One that ends has the lock
// for a moment yet.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for deadline := time.Now().Add(lockTime); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w (another keeper has it)", dir, err)
		}
	}
}

const lockTime = 8 * time.Second

func listen(dir string) (*net.UnixListener, error) {
	addr, done, err := socketAddr(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	_ = os.Remove(filepath.Join(dir, socketFile)) // of one that was killed
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path may be one that only works here
	return l, nil
}

// maxSocketPath is what fits into the address of a Unix socket everywhere.
const maxSocketPath = 100

// socketAddr is the socket of a directory, by a short way if its path is long.
// The address is good until done.
func socketAddr(dir string) (addr *net.UnixAddr, done func(), err error) {
	path := filepath.Join(dir, socketFile)
	if len(path) <= maxSocketPath {
		return &net.UnixAddr{Net: "unix", Name: path}, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile)
	return &net.UnixAddr{Net: "unix", Name: short}, func() { _ = d.Close() }, nil
}

// catchSignals keeps signals from ending the keeper without its order. SIGTERM
// comes through the channel. The end of a terminal is none of its business: that
// is not ignored but caught, and nothing is done, for commands would inherit
// that it is ignored, also from whoever started the host so.
func catchSignals() <-chan os.Signal {
	others := make(chan os.Signal, 1)
	signal.Notify(others, syscall.SIGHUP, syscall.SIGINT)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	return term
}

// endOnSignal kills everything and ends the keeper in peace, when somebody tells
// this process to end.
func (s *server) endOnSignal(term <-chan os.Signal) {
	select {
	case <-term:
	case <-s.ended:
		return
	}
	s.say(true, "", "the keeper was told to end by a signal, and ends all that it keeps")
	s.mu.Lock()
	all := make([]*child, 0, len(s.children))
	for _, c := range s.children {
		all = append(all, c)
	}
	s.options.Idle = 0
	s.mu.Unlock()
	for _, c := range all {
		s.work.Go(func() { _ = s.remove(c, "its keeper was told to end") })
	}
	s.mu.Lock()
	s.restless()
	s.mu.Unlock()
}
