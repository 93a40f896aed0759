package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// A child that is a BEAM node is a target while it runs, whatever the configuration
// says of targets, with the cookie of its own; and is one again after each restart, of
// it, of the host, and of its plugin.
func TestChildrenAreTargets(t *testing.T) {
	t.Parallel()
	for _, otp := range erltest.Releases() {
		t.Run("otp"+otp, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, rig.TempDir(t), fmt.Sprintf("[targets]\ninclude = [\"nobody\"]\ngone_after = \"1ms\"\n[sandbox.beam]\npath = %q\n",
				filepath.Join(erltest.Dir(), otp, "bin")+":"+os.Getenv("PATH")))
			dir := t.TempDir()
			script := filepath.Join(dir, "shop.exs")
			require.NoError(t, os.WriteFile(script, []byte("raise \"sold out\"\n"), 0o600))
			_, stderr := h.Exit(t, 1, "sandbox", "create", "shop", "--from", script)
			require.Contains(t, stderr, "(RuntimeError) sold out")
			list, _ := h.Exit(t, 0, "sandbox", "list", "-o", "json")
			require.NotContains(t, list, "shop", "nothing is left of one that failed")

			require.NoError(t, os.WriteFile(script, []byte("{:ok, _} = Agent.start(fn -> 40 end, name: Stock)\n"), 0o600))
			show, _ := h.Exit(t, 0, "sandbox", "create", "shop", "--from", script)
			first := h.attached(t, otp, "")
			require.Contains(t, show, first)
			const next = "Agent.get_and_update(Stock, &{&1, &1 + 1})"
			out, _ := h.Exit(t, 0, "sandbox", "exec", "shop", next)
			require.Equal(t, "40\n", out)

			// It dies, and the next one is another target.
			_, _, err := h.Try("eval", first, ":erlang.halt(7)")
			require.Error(t, err)
			second := h.attached(t, otp, first)
			out, _ = h.Exit(t, 0, "eval", second, next)
			require.Equal(t, "40\n", out)

			// A host that was killed finds it as it was.
			h.Kill()
			h.again(t)
			require.Equal(t, second, h.attached(t, otp, first))
			out, _ = h.Exit(t, 0, "eval", second, next)
			require.Equal(t, "41\n", out)

			ranked, _ := h.Exit(t, 0, "ps", "shop", "--limit", "1")
			require.Contains(t, ranked, second, "its name stands for its node")

			h.Exit(t, 0, "sandbox", "destroy", "shop")
			h.Eventually(t, func() error {
				if rows := h.targets(t); len(rows) > 0 {
					return fmt.Errorf("still there: %v", rows)
				}
				return nil
			})
		})
	}
}

type childTarget struct {
	Node, State, Reason string
	OTPRelease          string   `json:"otp_release"`
	Topologies          []string `json:"topologies"`
}

func (h *home) targets(t *testing.T) []childTarget {
	var all struct{ Targets []childTarget }
	h.JSON(t, 0, &all, "targets", "-o", "json")
	return all.Targets
}

// attached waits for the child shop as the only target, one with another name than
// before, and returns its name.
func (h *home) attached(t *testing.T, otp, before string) (node string) {
	t.Helper()
	h.Eventually(t, func() error {
		rows := h.targets(t)
		if len(rows) != 1 || rows[0].State != "attached" {
			return fmt.Errorf("the targets are %+v", rows)
		}
		require.Equal(t, otp, rows[0].OTPRelease)
		require.Equal(t, []string{"sandbox:shop"}, rows[0].Topologies)
		if node = rows[0].Node; node == before {
			return errors.New("it is the one that was killed")
		}
		return nil
	})
	return node
}
