package host

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/host/target"
	"github.com/debughost/debughost/sdk"
)

// distAddr is where a node listens, as its EPMD tells.
func distAddr(t *testing.T, b *erltest.Beam) string {
	t.Helper()
	alive, _, _ := strings.Cut(b.Name, "@")
	client, err := epmd.FromEnv(os.Getenv)
	require.NoError(t, err)
	info, err := client.Lookup(t.Context(), "127.0.0.1", alive)
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(info.Port)))
}

// TestSandboxesAreTargets: the node of a child is attached to where its strategy says
// that it is, with its own cookie, whatever the configuration says of its name; it
// answers to the child's name too; and it is gone with the run.
func TestSandboxesAreTargets(t *testing.T) {
	out, err := exec.Command("go", "build", "-tags", "grpcnotrace", "-o", plugins+"/", "./testdata/sandbox-node", "../plugins/placement-uniform").CombinedOutput()
	require.NoError(t, err, string(out))
	b := erltest.Start(t, erltest.Options{})
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong")
	require.NoError(t, os.WriteFile(wrong, []byte("not-its-cookie"), 0o400))
	own, gone := filepath.Join(dir, "own"), filepath.Join(dir, "gone")
	require.NoError(t, os.WriteFile(own, []byte(b.Cookie), 0o400))
	f := start(t, b, "[topologies.local]\nstrategy = \"discovery-epmd\"\n[targets]\nexclude = [\"*\"]\n[[targets.cookies]]\nnodes = \"*\"\nfile = "+strconv.Quote(wrong)+"\n")
	f.await(t, events.PluginStarted, nil)

	config, err := json.Marshal(map[string]string{"node": b.Name, "addr": distAddr(t, b), "cookie": own, "gone": gone})
	require.NoError(t, err)
	_, err = f.StartChild(t.Context(), supervisor.Spec{ID: "copy", Strategy: "node", Config: config, Restart: sdk.RestartTemporary})
	require.NoError(t, err)
	f.await(t, events.TargetAttached, func(e events.Event) bool { return e.Node == b.Name })

	infos := f.Targets()
	require.Len(t, infos, 1)
	require.Contains(t, infos[0].Topologies, "sandbox:copy")
	child, err := f.ChildByID(t.Context(), "copy")
	require.NoError(t, err)
	require.Equal(t, b.Name, child.Node)
	d, err := f.Inspect(t.Context(), target.InspectQuery{Node: "copy", Process: "init"})
	require.NoError(t, err, "a sandbox's name means its node")
	require.Equal(t, b.Name, d.Node)
	full, _, err := f.owners.Find("copy")
	require.NoError(t, err)
	require.Equal(t, b.Name, full)
	_, err = f.Inspect(t.Context(), target.InspectQuery{Node: "copies", Process: "init"})
	require.ErrorIs(t, err, target.ErrNoTarget)

	require.NoError(t, f.Reload(t.Context()), "and what is excluded by name stays")
	require.Len(t, f.Targets(), 1)
	require.NoError(t, os.WriteFile(gone, nil, 0o600))
	e := f.await(t, events.TargetDropped, func(e events.Event) bool { return e.Node == b.Name })
	require.Equal(t, "sandbox copy does not run here any more", e.Reason)
	require.Eventually(t, func() bool { return len(f.Targets()) == 0 }, 30*time.Second, 10*time.Millisecond)
	require.NotContains(t, f.log.String(), b.Cookie)
}
