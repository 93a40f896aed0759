// Package system tests debughost as its users have it: the real binaries, real
// BEAM nodes, a real EPMD, and what goes wrong with each of them.
package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// site is a machine as a user has it: an EPMD, a home with a cookie, nodes.
type site struct {
	epmd   *erltest.EPMD
	home   string
	cookie string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{epmd: erltest.StartEPMD(t), home: t.TempDir(), cookie: "secretcookie" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	require.NoError(t, os.WriteFile(filepath.Join(s.home, ".erlang.cookie"), []byte(s.cookie), 0o400))
	return s
}

// node starts a BEAM node at the site.
func (s *site) node(t testing.TB, o erltest.Options) *erltest.Beam {
	t.Helper()
	o.EPMD = s.epmd
	if o.Cookie == "" {
		o.Cookie = s.cookie
	}
	return erltest.Start(t, o)
}

// host is one debughost process.
type host struct {
	*rig.Host
	site *site
}

func (s *site) env() []string {
	return []string{
		"HOME=" + s.home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR"),
		"ERL_EPMD_PORT=" + strconv.Itoa(s.epmd.Port),
	}
}

// run starts `debughost run` and waits until it answers.
func (s *site) run(t testing.TB, args ...string) *host {
	t.Helper()
	return s.runIn(t, "", args...)
}

func (s *site) runIn(t testing.TB, dir string, args ...string) *host {
	t.Helper()
	return &host{rig.Start(t, rig.Options{Dir: dir, Args: args, Env: s.env()}), s}
}

// start starts a command that becomes a debughost.
func (s *site) start(t testing.TB, dir string, args ...string) *host {
	t.Helper()
	return &host{rig.Exec(t, rig.Options{Dir: dir, Env: s.env()}, args...), s}
}

type targetRow struct {
	Node, State, Reason, Owner string
	OTPRelease                 string `json:"otp_release"`
}

type processRow struct {
	Node, Pid, Status string
	RegisteredName    string `json:"registered_name"`
	Memory            uint64
	MessageQueueLen   uint64 `json:"message_queue_len"`
}

type psAnswer struct {
	Processes []processRow
	Errors    []struct{ Node, Error string }
}

func (h *host) targets(t testing.TB) map[string]targetRow {
	t.Helper()
	var a struct{ Targets []targetRow }
	h.JSON(t, 0, &a, "targets")
	out := map[string]targetRow{}
	for _, r := range a.Targets {
		out[r.Node] = r
	}
	return out
}

// await waits until a node is shown in the state and returns its row.
func (h *host) await(t testing.TB, node, state string) targetRow {
	t.Helper()
	var row targetRow
	h.Eventually(t, func() error {
		rows := h.targets(t)
		row = rows[node]
		if row.State != state {
			return fmt.Errorf("%s is %q, want %q; all: %v", node, row.State, state, rows)
		}
		return nil
	})
	return row
}

func (h *host) attached(t testing.TB, beams ...*erltest.Beam) {
	t.Helper()
	for _, b := range beams {
		h.await(t, b.Name, "attached")
	}
}

type eventRow struct {
	Type, Node, Plugin, Reason string
}

func (h *host) events(t testing.TB) []eventRow {
	t.Helper()
	out, _ := h.Exit(t, 0, "events", "-o", "json")
	var all []eventRow
	for line := range strings.Lines(out) {
		var e eventRow
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		all = append(all, e)
	}
	return all
}

func (h *host) awaitEvent(t testing.TB, typ string) eventRow {
	t.Helper()
	var found eventRow
	h.Eventually(t, func() error {
		all := h.events(t)
		i := slices.IndexFunc(all, func(e eventRow) bool { return e.Type == typ })
		if i < 0 {
			return fmt.Errorf("no %s among %v", typ, all)
		}
		found = all[i]
		return nil
	})
	return found
}

func (h *host) pluginPid(t testing.TB) int {
	t.Helper()
	var pid int
	h.Eventually(t, func() error {
		var a struct {
			Plugins []struct {
				State string
				Pid   int
			}
		}
		h.JSON(t, 0, &a, "plugins")
		if len(a.Plugins) != 1 || a.Plugins[0].State != "running" {
			return fmt.Errorf("plugins: %+v", a.Plugins)
		}
		pid = a.Plugins[0].Pid
		return nil
	})
	return pid
}

// clean is an expression that is {0,0} when nothing of us is on a node: no
// module, in current or old code, and no registered name.
const clean = `Ours = fun(L) -> length(lists:usort([M || M <- L, lists:prefix("debughost", atom_to_list(M))])) end,
	{Ours(erlang:loaded() ++ [M || {M, _} <- code:all_loaded()]), Ours(registered())}`
