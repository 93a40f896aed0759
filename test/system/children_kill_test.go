package system

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is killed, the child runs afterwards, once, and nothing is left of what
// was.
func TestChildSurvivesKills(t *testing.T) {
	t.Parallel()
	const (
		same  = "taken_over"
		anew  = "exited started"
		lost  = "killed with its keeper"
		other = "killed by somebody else"
	)
	for _, c := range []struct {
		victims string // in this order
		history string // ends with it
		reason  string // of the last end
	}{
		{"host", same, ""},
		{"plugin", "", ""}, // nobody notices
		{"keeper", anew, lost},
		{"child", anew, other},
		{"plugin keeper", anew, lost},
		{"plugin child", anew, other},
		{"host plugin", same, ""},
		{"host child", "", other},
		{"host keeper", "", lost},
		{"host plugin keeper", "", lost},
		{"host plugin keeper child", "", ""},
	} {
		t.Run(c.victims, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "", "")
			main, grandchild := word(), word()
			h.run(t, "web", "--", "sh", "-c", "setsid sleep "+grandchild+" & exec sleep "+main)
			before := h.await(t, "web", "running")
			// Nothing else that runs has the words: the shell became one, and its script
			// is an argument of its own.
			h.Eventually(t, func() error { return once(main, grandchild) })
			pids := map[string]int{
				"host": h.Pid(), "plugin": h.plugin(t, "sandbox-process"), "keeper": h.keeper(t), "child": before.OSPid,
			}
			require.Len(t, pids, 4)
			for victim := range strings.FieldsSeq(c.victims) {
				_ = syscall.Kill(pids[victim], syscall.SIGKILL) // the plugin may have gone with its host
			}
			if strings.Contains(c.victims, "host") {
				<-h.Done
				h.again(t)
			}
			replaced := strings.Contains(c.victims, "keeper") || strings.Contains(c.victims, "child")
			after := h.await(t, "web", "running", func(d childDetail) bool {
				return (d.OSPid != before.OSPid) == replaced && d.OSPid != 0 && strings.HasSuffix(d.what(), c.history)
			})
			h.Eventually(t, func() error { return once(main, grandchild) })
			require.Equal(t, []int{after.OSPid}, processes(main))
			require.Contains(t, fmt.Sprint(reasons(after)), c.reason)
			if c.victims == "plugin" {
				require.NotEqual(t, pids["plugin"], h.plugin(t, "sandbox-process"))
				require.Equal(t, "placed started", after.what())
			}
			h.leavesNothing(t, main, grandchild)
		})
	}
}

// once is nil when one process has each of the words.
func once(words ...string) error {
	for _, w := range words {
		if pids := processes(w); len(pids) != 1 {
			return fmt.Errorf("%d processes with %s: %v", len(pids), w, pids)
		}
	}
	return nil
}

func reasons(c childDetail) []string {
	var all []string
	for _, e := range c.History {
		all = append(all, e.Reason)
	}
	return all
}
