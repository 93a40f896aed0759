package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest/badplugin"
	"github.com/debughost/debughost/test/rig"
)

// changingPlugin is the name by which this program is another plugin.
const changingPlugin = "sandbox-changing"

// changing is a sandbox strategy whose sandboxes have a bundle, which is any file, and
// take another while they run.
type changing struct {
	allAbilities
	base *badplugin.Sandbox
}

type allAbilities interface {
	sdk.Strategy
	sdk.Snapshotter
	sdk.Reloader
	sdk.Operator
}

var _ sdk.Configured = (*changing)(nil)

func serveChanging() {
	base := &badplugin.Sandbox{Name: changingPlugin}
	sdk.Serve(&changing{badplugin.Changing(base), base})
}

func (c *changing) Configured(ctx context.Context) error {
	c.base.Dir, _ = sdk.StateDirFrom(ctx)
	return nil
}

// TestBundles has a child run what was uploaded to a member that is lost then, and take
// another bundle while it runs.
func TestBundles(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(rig.Bin, changingPlugin)
	require.NoError(t, os.Symlink(self, link))
	t.Cleanup(func() { require.NoError(t, os.Remove(link)) })
	l := newLab(t, "a", "b", "c")
	crew := newCrew(t, l)
	clients := map[string]*control.Client{}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for i, name := range []string{"a", "b", "c"} {
		p := crew.start(name, l.machines[i], nil)
		clients[name], err = control.Dial(ctx, "unix://"+filepath.Join(p.Dir, "api.sock"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = clients[name].Close() })
	}
	for _, p := range crew.members {
		p.awaitStates(t, map[string]string{"a": "alive", "b": "alive", "c": "alive"})
	}
	upload := func(text string) string {
		id, _, err := clients["a"].UploadBlob(ctx, strings.NewReader(text))
		require.NoError(t, err)
		return id
	}
	one, two, bad := upload("one"), upload("two"), upload("bad")
	waitFor := func(at, id string, epoch uint64) *controlpb.Child {
		t.Helper()
		res, err := clients[at].Children.WaitChild(ctx, &controlpb.WaitChildRequest{Id: id, Epoch: epoch})
		require.NoError(t, err)
		require.Equal(t, "running", res.GetChild().GetState(), res.GetChild().GetReason())
		return res.GetChild()
	}
	has := func(at, id, want string) {
		t.Helper()
		res, err := clients[at].Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: id, Operation: "bundle"})
		require.NoError(t, err)
		require.JSONEq(t, fmt.Sprintf(`{"bundle": %q}`, want), res.GetOutput())
	}
	reload := func(at, bundle, note string) (*controlpb.ReloadChildResponse, error) {
		return clients[at].Children.ReloadChild(ctx, &controlpb.ReloadChildRequest{Id: "web", Bundle: bundle, Note: note})
	}
	spec := &controlpb.ChildSpec{Id: "web", Strategy: "changing", Bundle: one}
	_, err = clients["b"].Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: spec})
	require.NoError(t, err)
	web := waitFor("c", "web", 0)
	elsewhere := "b"
	if web.GetMember() == "b" {
		elsewhere = "c"
	}
	has(elsewhere, "web", "one")

	// It takes the other bundle, is not started again, and all members know.
	res, err := reload(elsewhere, two, "faster")
	require.NoError(t, err)
	require.JSONEq(t, `{"was": "one"}`, res.GetReport())
	has("a", "web", "two")
	for name, c := range clients {
		require.NoError(t, rig.Until(rig.Patience, func() error {
			got, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: "web"})
			if err != nil {
				return err
			}
			versions := got.GetSpec().GetVersions()
			if len(versions) != 2 || versions[1].GetNote() != "faster" || got.GetChild().GetBundle() != two {
				return fmt.Errorf("%s says %v", name, versions)
			}
			require.Equal(t, web.GetEpoch(), got.GetChild().GetEpoch())
			require.Equal(t, web.GetStarted().AsTime(), got.GetChild().GetStarted().AsTime())
			return nil
		}))
	}

	// What does not work changes nothing.
	_, err = reload(elsewhere, bad, "")
	require.ErrorContains(t, err, "the bundle is bad")
	_, err = reload(elsewhere, strings.Repeat("0", 64), "")
	requireCode(t, err, control.NoBlob, "no member has it")
	_, err = clients["b"].Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: &controlpb.ChildSpec{Id: "db", Strategy: "changing", Bundle: strings.Repeat("0", 64)}})
	requireCode(t, err, control.NoBlob, "no member has it")
	_, err = clients["b"].Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "fly"})
	requireCode(t, err, control.Unsupported, "fly")
	_, err = clients["b"].Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: &controlpb.ChildSpec{Id: "db", Strategy: "process", Config: `{"command":["sleep","9"]}`, Seed: one}})
	requireCode(t, err, control.BadRequest, "takes no snapshots")
	has("a", "web", "two")

	// Its state is the seed of another one.
	var state bytes.Buffer
	require.NoError(t, clients[elsewhere].SnapshotChild(ctx, "web", &state))
	require.Equal(t, "snapshot of web", state.String())
	_, err = clients["c"].Children.StartChild(ctx, &controlpb.StartChildRequest{Spec: &controlpb.ChildSpec{Id: "copy", Strategy: "changing", Bundle: two, Seed: upload(state.String())}})
	require.NoError(t, err)
	waitFor("c", "copy", 0)
	has("a", "copy", "two")

	// The member that has all of it is lost, and what it had runs on another.
	if web.GetMember() != "a" {
		moved, err := clients["b"].Children.MoveChild(ctx, &controlpb.MoveChildRequest{Id: "web", Member: "a"})
		require.NoError(t, err)
		waitFor("a", "web", moved.GetChild().GetEpoch())
	}
	for _, id := range []string{one, two} { // also what it was
		require.NoError(t, rig.Until(rig.Patience, func() error {
			for _, p := range crew.members[1:] {
				if _, err := os.Stat(filepath.Join(p.Dir, "blobs", id)); err == nil {
					return nil
				}
			}
			return fmt.Errorf("only a has %s", id)
		}))
	}
	crew.members[0].Kill()
	for _, p := range crew.running() {
		p.awaitStates(t, map[string]string{"a": "dead"})
	}
	require.NoError(t, rig.Until(rig.Patience, func() error {
		res, err := clients["b"].Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "bundle"})
		if err == nil && !strings.Contains(res.GetOutput(), "two") {
			err = fmt.Errorf("it has %s", res.GetOutput())
		}
		return err
	}))
	for _, name := range []string{"b", "c"} {
		var got bytes.Buffer
		require.NoError(t, clients[name].DownloadBlob(ctx, one, &got))
		require.Equal(t, "one", got.String())
	}
	requireCode(t, clients["b"].DownloadBlob(ctx, bad, io.Discard), control.NoBlob, "") // nothing has named it
}

func requireCode(t *testing.T, err error, code control.Code, cause string) {
	t.Helper()
	var e *control.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, e.Cause)
	require.Contains(t, e.Cause, cause)
}
