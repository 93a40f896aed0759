package keeper

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/debughost/debughost/sdk"
)

// openGroups finds a place in the cgroup v2 hierarchy where this process may
// make groups: below the one that it is in, or beside that, if the parent was
// delegated (systemd's Delegate with DelegateSubgroup). It is kept for the state
// directory of that name, and what an earlier keeper left there is killed.
func openGroups(stateDir string) (*groups, error) {
	mount, root, err := groupMount()
	if err != nil {
		return nil, err
	}
	own, err := ownGroup()
	if err != nil {
		return nil, err
	}
	below, ok := strings.CutPrefix(own, strings.TrimSuffix(root, "/"))
	if !ok {
		return nil, fmt.Errorf("use cgroup: %s is not below %s, which is mounted", own, root)
	}
	own = filepath.Join(mount, below)
	sum := sha256.Sum256([]byte(stateDir))
	name := "debughost-" + hex.EncodeToString(sum[:4])
	places := []string{own}
	if parent := filepath.Dir(own); own != mount && delegated(parent) {
		places = []string{parent, own}
	}
	for _, place := range places {
		g := &groups{dir: filepath.Join(place, name)}
		if err = os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		g.sweep()
		if _, err = os.Stat(filepath.Join(g.dir, "cgroup.kill")); err != nil { // before Linux 5.14
			_ = os.Remove(g.dir)
			continue
		}
		g.controllers = enable(place, g.dir)
		return g, nil
	}
	return nil, fmt.Errorf("use cgroup: %w", err)
}

// groupMount finds where cgroup v2 is mounted, and what part of it.
func groupMount() (mount, root string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /root /mount options … - type source options
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return fields[4], fields[3], nil
		}
	}
	return "", "", errors.New("use cgroup: cgroup v2 is not mounted")
}

// ownGroup is the group of this process in the v2 hierarchy.
func ownGroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(group), nil
		}
	}
	return "", errors.New("use cgroup: this process is in no group of cgroup v2")
}

// delegated reports whether systemd has left the group to whom it started.
func delegated(dir string) bool {
	for _, attr := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, attr, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// enable turns on the controllers for the groups in dir and returns those that
// they have. It cannot where place has processes of its own and is not the root.
func enable(place, dir string) map[string]bool {
	for _, c := range wantedControllers {
		for _, d := range []string{place, dir} {
			_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	have := make(map[string]bool)
	enabled, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	for _, c := range strings.Fields(string(enabled)) {
		have[c] = true
	}
	return have
}

// sweep kills and removes all groups.
func (g *groups) sweep() {
	entries, _ := os.ReadDir(g.dir)
	for _, e := range entries {
		if e.IsDir() {
			left := &group{dir: filepath.Join(g.dir, e.Name()), fd: -1}
			for deadline := time.Now().Add(killTime); left.kill() > 0 && time.Now().Before(deadline); {
				time.Sleep(killPause)
			}
			left.remove()
		}
	}
}

// close removes the place, which has to be empty.
func (g *groups) close() {
	if g != nil {
		g.sweep()
		_ = os.Remove(g.dir)
	}
}

// make makes the group of a command.
func (g *groups) make(name string, l sdk.SandboxLimits) (*group, error) {
	if g == nil {
		return nil, nil
	}
	c := &group{dir: filepath.Join(g.dir, name), fd: -1}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	err := c.limit(g, l)
	if err == nil {
		c.fd, err = unix.Open(c.dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		c.remove()
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return c, nil
}

// cpuPeriod is the time over which the share of CPUs is kept, in microseconds.
const cpuPeriod = 100_000

func (c *group) limit(g *groups, l sdk.SandboxLimits) error {
	var err error
	set := func(file, value string) {
		if err == nil {
			err = os.WriteFile(filepath.Join(c.dir, file), []byte(value), 0)
		}
	}
	if l.Memory > 0 && g.has("memory") {
		set("memory.max", strconv.FormatUint(l.Memory, 10))
		set("memory.oom.group", "1") // all of it or nothing
		if err == nil {              // there is no such file without swap
			_ = os.WriteFile(filepath.Join(c.dir, "memory.swap.max"), []byte("0"), 0)
		}
	}
	if l.Processes > 0 && g.has("pids") {
		set("pids.max", strconv.Itoa(tasks(l.Processes)))
	}
	if l.CPUs > 0 && g.has("cpu") {
		set("cpu.max", fmt.Sprintf("%d %d", max(int(l.CPUs*cpuPeriod), 1000), cpuPeriod))
	}
	return err
}

// tasks bounds the threads of so many processes, which is what the kernel can
// count. The processes themselves are counted by the watch; this keeps what forks
// without end from running away in the time that the watch needs.
func tasks(processes int) int { return 32*processes + 256 }

// kill kills all in the group and below it, and returns how many are left.
func (c *group) kill() int {
	_ = os.WriteFile(filepath.Join(c.dir, "cgroup.kill"), []byte("1"), 0)
	if !c.populated() {
		return 0
	}
	return 1
}

// populated reports whether there is a process in the group or below it. Dead
// ones that nobody has waited for count.
func (c *group) populated() bool {
	buf := make([]byte, 256)
	n := readSmall(filepath.Join(c.dir, "cgroup.events"), buf)
	return bytes.Contains(buf[:n], []byte("populated 1"))
}

// pids are the processes in the group itself. A command that makes groups of
// its own below it hides from this, and not from kill.
func (c *group) pids() []int {
	data, err := os.ReadFile(filepath.Join(c.dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for word := range bytes.FieldsSeq(data) {
		if pid, err := strconv.Atoi(string(word)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *group) freeze(on bool) {
	value := "0"
	if on {
		value = "1"
	}
	_ = os.WriteFile(filepath.Join(c.dir, "cgroup.freeze"), []byte(value), 0)
}

// number reads a key of a flat file, such as usage_usec of cpu.stat; an empty
// key is for files that are a number.
func (c *group) number(file, key string) uint64 {
	buf := make([]byte, 4096)
	n := readSmall(filepath.Join(c.dir, file), buf)
	for line := range bytes.Lines(buf[:n]) {
		fields := bytes.Fields(line)
		if len(fields) == 1 && key == "" || len(fields) == 2 && string(fields[0]) == key {
			v, _ := strconv.ParseUint(string(fields[len(fields)-1]), 10, 64)
			return v
		}
	}
	return 0
}

func (c *group) cpuTime() time.Duration {
	return time.Duration(c.number("cpu.stat", "usage_usec")) * time.Microsecond
}

// outOfMemory reports whether the kernel killed the group at its limit.
func (c *group) outOfMemory() bool { return c.number("memory.events", "oom_kill") > 0 }

// outOfPids is how often a fork failed at the limit.
func (c *group) outOfPids() uint64 { return c.number("pids.events", "max") }

func (c *group) memory() uint64 { return c.number("memory.current", "") }

// remove removes the group and those below it. Their processes have ended.
func (c *group) remove() {
	if c == nil {
		return
	}
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
	removeGroups(c.dir, 8)
}

func removeGroups(dir string, depth int) {
	if os.Remove(dir) == nil || depth == 0 {
		return
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeGroups(filepath.Join(dir, e.Name()), depth-1)
		}
	}
	// The kernel may need a moment after the last process has ended.
	for range 50 {
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(killPause)
	}
}
