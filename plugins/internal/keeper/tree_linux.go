package keeper

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// markResource carries the mark: the limit of file locks, which the kernel has
// not looked at since version 2.4. A limit is inherited by all that a process
// forks, through exec, setsid and a cleared environment, and only the system's
// superuser can raise it again. Lowering it is possible; what did that is below
// the keeper in another way, see strays.
const markResource = unix.RLIMIT_LOCKS

// newMark is below what this process may set, for it may have a mark itself.
func newMark() uint64 {
	var have unix.Rlimit
	if unix.Prlimit(0, markResource, nil, &have) != nil || have.Max < 1<<20 {
		return 0
	}
	top := min(have.Max, 1<<62)
	return top/2 + rand.Uint64N(top/2)
}

// markOf is the mark of a process, which may be another program's limit.
func markOf(pid int) uint64 {
	var have unix.Rlimit
	if unix.Prlimit(pid, markResource, nil, &have) != nil {
		return 0
	}
	return have.Max
}

// lookAtAll reads /proc.
func lookAtAll() census {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	all := make(census, 0, len(names))
	buf := make([]byte, 512)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := look(pid, buf); ok {
			all = append(all, p)
		}
	}
	return all
}

// look reads one process's line in /proc: pid (name) state ppid pgrp session …
// The name may hold anything, parentheses and blanks too.
func look(pid int, buf []byte) (proc, bool) {
	n := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", buf)
	end := bytes.LastIndexByte(buf[:n], ')')
	if end < 0 {
		return proc{}, false
	}
	fields := strings.Fields(string(buf[end+1 : n]))
	if len(fields) < 4 {
		return proc{}, false
	}
	p := proc{pid: pid, zombie: fields[0] == "Z" || fields[0] == "X", mark: markOf(pid)}
	p.parent, _ = strconv.Atoi(fields[1])
	p.session, _ = strconv.Atoi(fields[3])
	return p, true
}

// readSmall reads the beginning of a file without what os.Open costs.
func readSmall(path string, buf []byte) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, buf)
	return max(n, 0)
}

// writeSmall writes to a file that is there, such as one of the kernel's.
func writeSmall(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// ownChildren are the direct children of this process.
func ownChildren() []int {
	var pids []int
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		data, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil && errors.Is(err, os.ErrNotExist) {
			continue // the thread ended
		}
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killSession is for systems on which a tree is found in no other way.
func killSession(int) {}

// killPid kills a process if it is still the one that was meant: it has the
// mark, or is the root, which only the keeper can reap, or is below it.
func killPid(pid int, mark uint64, root int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // gone; or a kernel before 5.3, where the group is all there is
	}
	defer unix.Close(fd)
	if pid != root && markOf(pid) != mark && !below(pid, mark, root) {
		return
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// below walks up from a process whose own mark is another.
func below(pid int, mark uint64, root int) bool {
	buf := make([]byte, 512)
	for range 64 {
		p, ok := look(pid, buf)
		if !ok || p.parent <= 1 {
			return false
		}
		if p.parent == root || markOf(p.parent) == mark {
			return true
		}
		pid = p.parent
	}
	return false
}

// memoryOf is what a process has in memory that is no file's, in bytes: its own
// pages, and those of memory that it may share with others.
func memoryOf(pid int, buf []byte) (own, shared uint64) {
	n := readSmall("/proc/"+strconv.Itoa(pid)+"/status", buf)
	for line := range bytes.Lines(buf[:n]) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		switch string(key) {
		case "RssAnon":
			own = kilobytes(value)
		case "RssShmem":
			return own, kilobytes(value)
		}
	}
	return own, 0
}

func kilobytes(b []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(b), []byte("kB")))), 10, 64)
	return n << 10
}
