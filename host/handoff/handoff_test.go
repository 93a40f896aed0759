package handoff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/debughost/debughost/sdk"
)

// serve serves a source to a caller of a name, until the test ends.
func serve(t *testing.T, caller string, source func(ctx context.Context, member, child string, epoch uint64, w io.Writer) error) *grpc.ClientConn {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	srv := grpc.NewServer()
	Register(srv, Config{Source: source, PeerName: func(credentials.AuthInfo) (string, bool) { return caller, caller != "" }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Stop
	}()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
	})
	return conn
}

func TestFetch(t *testing.T) {
	state := bytes.Repeat([]byte("state"), 1<<20)
	conn := serve(t, "b", func(_ context.Context, member, child string, epoch uint64, w io.Writer) error {
		if member != "b" || child != "web" || epoch != 3 {
			return fmt.Errorf("%s wants %s of epoch %d", member, child, epoch)
		}
		n, err := w.Write(state)
		if err == nil && n != len(state) {
			err = io.ErrShortWrite
		}
		return err
	})
	var got bytes.Buffer
	require.NoError(t, Fetch(t.Context(), conn, "b", "web", 3, &got))
	require.True(t, bytes.Equal(state, got.Bytes()))

	full := errors.New("the disk is full")
	require.ErrorIs(t, Fetch(t.Context(), conn, "b", "web", 3, writerFunc(func([]byte) (int, error) { return 0, full })), full)
	require.ErrorContains(t, Fetch(t.Context(), conn, "b", "db", 3, io.Discard), "b wants db of epoch 3")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A state that breaks off is not taken for one that is complete, and who failed is
// told as it is.
func TestFetchBreaksOff(t *testing.T) {
	var fail error
	conn := serve(t, "b", func(_ context.Context, _, _ string, _ uint64, w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		return fail
	})
	for _, c := range []struct {
		err  error
		is   error
		text string
	}{
		{errors.New("out of memory"), nil, "out of memory"},
		{fmt.Errorf("strategy x takes none: %w", sdk.ErrUnsupported), sdk.ErrUnsupported, "strategy x takes none: not supported by this plugin"},
		{fmt.Errorf("take it: %w", context.DeadlineExceeded), context.DeadlineExceeded, "take it: context deadline exceeded"},
		{errors.New(strings.Repeat("x", 1<<20)), nil, strings.Repeat("x", maxReason)},
		{errors.New("bytes \xff"), nil, "bytes \uFFFD"},
	} {
		fail = c.err
		err := Fetch(t.Context(), conn, "b", "web", 3, io.Discard)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.EqualError(t, err, c.text)
		if c.is != nil {
			require.ErrorIs(t, err, c.is)
		}
	}
}

// Only the member that a certificate belongs to gets anything.
func TestFetchRefused(t *testing.T) {
	for _, caller := range []string{"", "c"} {
		conn := serve(t, caller, func(context.Context, string, string, uint64, io.Writer) error {
			t.Error("it was asked")
			return nil
		})
		err := Fetch(t.Context(), conn, "b", "web", 3, io.Discard)
		require.ErrorContains(t, err, "not of \"b\"")
	}
}

// A caller that goes away ends the call.
func TestFetchIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	conn := serve(t, "b", func(ctx context.Context, _, _ string, _ uint64, w io.Writer) error {
		_, err := io.WriteString(w, "some")
		<-ctx.Done()
		ended <- err
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	err := Fetch(ctx, conn, "b", "web", 3, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, <-ended)
}
