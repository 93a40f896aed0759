//go:build unix

package keeper

import (
	"strings"

	"github.com/debughost/debughost/sdk"
)

// groups is where a keeper makes its groups of processes; see group_linux.go.
// Nil is a system, or a user, that may have none.
type groups struct {
	dir         string
	controllers map[string]bool // that may be used below dir
}

func (g *groups) has(controller string) bool { return g != nil && g.controllers[controller] }

// how says by what the processes are held together.
func (g *groups) how() string {
	if g == nil {
		return "no cgroup"
	}
	if len(g.controllers) == 0 {
		return "cgroup v2 without controllers"
	}
	var have []string
	for _, c := range wantedControllers {
		if g.controllers[c] {
			have = append(have, c)
		}
	}
	return "cgroup v2 with " + strings.Join(have, ", ")
}

var wantedControllers = []string{"memory", "pids", "cpu"}

// group is the processes of one command, to the kernel.
type group struct {
	dir string
	fd  int // of dir, for the fork
}

// Ways in which a limit is held, in the words of Status.Enforced.
const (
	byGroup   = "cgroup v2"
	byWatch   = "watched, every 100 ms or, with hundreds of children, less often"
	byTasks   = "watched, and cgroup v2 for its threads"
	byFreezer = "cgroup v2, frozen for a part of the time"
	byRlimit  = "rlimit of each process"
	byDisk    = "rlimit of each file, and watched"
	byNothing = "not held: no cgroup v2 may be used here"
)

// enforced says by what each of a command's limits is held, and what holds its
// processes together.
func (s *server) enforced(l sdk.SandboxLimits) map[string]string {
	out := map[string]string{"tree": s.isolation()}
	choose := func(limit, controller, without string) {
		if out[limit] = without; s.groups.has(controller) {
			out[limit] = byGroup
		}
	}
	if l.Memory > 0 {
		choose("memory", "memory", byWatch)
	}
	if l.Processes > 0 {
		if out["processes"] = byWatch; s.groups.has("pids") {
			out["processes"] = byTasks
		}
	}
	if l.CPUs > 0 {
		without := byNothing
		if s.groups != nil {
			without = byFreezer
		}
		choose("cpus", "cpu", without)
	}
	if l.OpenFiles > 0 {
		out["open_files"] = byRlimit
	}
	if l.Disk > 0 {
		out["disk"] = byDisk
	}
	return out
}
