package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

func blobCluster(t *testing.T, members ...string) *testCluster {
	t.Helper()
	c := newTestCluster(t, members...)
	var err error
	c.children.blobs, err = blob.Open(t.TempDir(), blob.Config{})
	require.NoError(t, err)
	return c
}

func TestBlobs(t *testing.T) {
	c := blobCluster(t, "a")
	client, ctx := c.members["a"].dial(t), testContext(t)
	for _, n := range []int{0, 1, blobChunk, 3*blobChunk + 1} {
		data := bytes.Repeat([]byte("x"), n)
		id, size, err := client.UploadBlob(ctx, bytes.NewReader(data))
		require.NoError(t, err)
		sum := sha256.Sum256(data)
		require.Equal(t, hex.EncodeToString(sum[:]), id)
		require.EqualValues(t, n, size)
		var got bytes.Buffer
		require.NoError(t, client.DownloadBlob(ctx, id, &got))
		require.True(t, bytes.Equal(data, got.Bytes()))
	}
	for _, r := range c.members["a"].audit.all() {
		assert.NotContains(t, string(r.Args), "chunk", "what is uploaded is not written down")
	}

	cut := errors.New("cannot be read")
	_, _, err := client.UploadBlob(ctx, io.MultiReader(strings.NewReader("half"), broken{cut}))
	require.ErrorIs(t, err, cut)
	e := requireCode(t, client.DownloadBlob(ctx, strings.Repeat("0", 64), io.Discard), NoBlob)
	assert.NotEmpty(t, e.Hint)
	requireCode(t, client.DownloadBlob(ctx, "../etc/passwd", io.Discard), BadRequest)
	full := errors.New("the disk is full")
	id, _, err := client.UploadBlob(ctx, strings.NewReader("one"))
	require.NoError(t, err)
	require.ErrorIs(t, client.DownloadBlob(ctx, id, sink(func([]byte) (int, error) { return 0, full })), full)

	for want, req := range map[string]*controlpb.UploadBlobRequest{
		"is no id":         {Id: "x"},
		"another hash":     {Id: strings.Repeat("0", 64), Chunk: []byte("one")},
		"may be in one me": {Chunk: make([]byte, maxChunk+1)},
		"a piece of it ha": {Chunk: make([]byte, maxChunk+2)},
	} {
		stream, err := client.Children.UploadBlob(ctx)
		require.NoError(t, err)
		if len(req.GetChunk()) == maxChunk+1 { // also what is not the first
			require.NoError(t, stream.Send(&controlpb.UploadBlobRequest{}))
		}
		require.NoError(t, stream.Send(req))
		_, err = stream.CloseAndRecv()
		assert.Contains(t, requireCode(t, err, BadRequest).Cause, want)
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

type sink func([]byte) (int, error)

func (f sink) Write(p []byte) (int, error) { return f(p) }

// What is for the member that runs a child is done there, whichever was asked.
func TestChildrenAtTheRunner(t *testing.T) {
	c := blobCluster(t, "a", "b", "c")
	c.children.arbiter = "c"
	c.children.put(aChild("web", "b", supervisor.Running))
	c.children.snapshot = strings.Repeat("state", 1<<17)
	client, ctx := c.members["a"].dial(t), testContext(t)
	bundle := strings.Repeat("ab", 32)

	res, err := client.Children.ReloadChild(ctx, &controlpb.ReloadChildRequest{Id: "web", Bundle: bundle, Note: "faster"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"loaded":2}`, res.GetReport())
	assert.Equal(t, bundle, res.GetChild().GetBundle())
	shown, err := client.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: "web"})
	require.NoError(t, err)
	assert.Equal(t, bundle, shown.GetSpec().GetBundle())
	require.Len(t, shown.GetSpec().GetVersions(), 1)
	assert.Equal(t, "faster", shown.GetSpec().GetVersions()[0].GetNote())

	big := `"` + strings.Repeat("x", sdk.MaxOperation-2) + `"`
	for input, want := range map[string]string{"": "{}", `{"a":1}`: `{"a":1}`, big: big} {
		out, err := client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "echo", Input: input})
		require.NoError(t, err)
		assert.Equal(t, len(want), len(out.GetOutput()))
	}
	var state bytes.Buffer
	require.NoError(t, client.SnapshotChild(ctx, "web", &state))
	assert.Equal(t, c.children.snapshot, state.String())
	assert.Equal(t, "b reload web, b operate echo web, b operate echo web, b operate echo web, b snapshot web", strings.Join(c.children.did(), ", "))
	for _, r := range c.members["b"].audit.all() {
		assert.NotContains(t, string(r.Args), "xxx")
		assert.NotContains(t, string(r.Result), "xxx")
	}

	for _, err := range []error{
		second(client.Children.ReloadChild(ctx, &controlpb.ReloadChildRequest{Id: "web", Bundle: "x"})),
		second(client.Children.ReloadChild(ctx, &controlpb.ReloadChildRequest{Id: "web", Bundle: bundle, Note: strings.Repeat("x", maxNote+1)})),
		second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web"})),
		second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "echo", Input: "{"})),
		second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "echo", Input: big + " "})),
		second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "a/b", Operation: "echo"})),
	} {
		requireCode(t, err, BadRequest)
	}
	requireCode(t, second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "db", Operation: "echo"})), UnknownChild)
	requireCode(t, client.SnapshotChild(ctx, "db", io.Discard), UnknownChild)
	for want, err := range map[Code]error{
		Unsupported: sdk.ErrUnsupported,
		NoBlob:      blob.ErrNotFound,
		Conflict:    &supervisor.StateError{Verb: "operate", ID: "web", Problem: "it is stopped"},
	} {
		c.children.change(func() { c.children.fail = err })
		requireCode(t, second(client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "echo"})), want)
		requireCode(t, client.SnapshotChild(ctx, "web", io.Discard), want)
	}
}

func second[T any](_ T, err error) error { return err }

// A child that has gone to another member meanwhile is found there.
func TestRunnerChanges(t *testing.T) {
	c := blobCluster(t, "a", "b")
	c.children.put(aChild("web", "b", supervisor.Running))
	c.children.change(func() {
		c.children.fail = &supervisor.StateError{Verb: "operate", ID: "web", Problem: "it is not here", Elsewhere: true}
	})
	client := c.members["a"].dial(t)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		_, err := client.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: "web", Operation: "echo"})
		done <- err
	}()
	require.Eventually(t, func() bool { return c.members["a"].server.forward.again.Load() > 0 }, 30*time.Second, time.Millisecond)
	c.children.change(func() {
		web := c.children.children["web"]
		web.Member, c.children.fail = "a", nil
		c.children.children["web"] = web
	})
	require.NoError(t, <-done)
	did := c.children.did()
	assert.Equal(t, "a operate echo web", did[len(did)-1])
}
