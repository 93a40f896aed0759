package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	blobpb "github.com/debughost/debughost/host/blob/proto"
)

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "blobs"), cfg)
	require.NoError(t, err)
	return s
}

func idOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *Store, content string) string {
	t.Helper()
	id, size, err := s.Put(strings.NewReader(content), "")
	require.NoError(t, err)
	require.Equal(t, idOf(content), id)
	require.EqualValues(t, len(content), size)
	return id
}

func content(t *testing.T, s *Store, id string) string {
	t.Helper()
	f, err := s.Open(id)
	require.NoError(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	return string(b)
}

// files are all that the store has on disk.
func files(t *testing.T, s *Store) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPutAndOpen(t *testing.T) {
	s := open(t, Config{})
	id := put(t, s, "one")
	require.Equal(t, id, put(t, s, "one"))
	require.True(t, s.Has(id))
	require.False(t, s.Has(idOf("two")))
	require.False(t, s.Has("../x"))
	require.Equal(t, "one", content(t, s, id))

	require.NoError(t, os.WriteFile(filepath.Join(s.dir, tempPrefix+"1"), []byte("half"), 0o600))
	again, err := Open(s.dir, Config{})
	require.NoError(t, err)
	require.Equal(t, "one", content(t, again, id))
	require.Equal(t, []string{id}, files(t, again))

	for _, bad := range []string{"", "x", strings.ToUpper(id), "../" + id, id[1:] + "/"} {
		_, err := s.Open(bad)
		require.ErrorIs(t, err, ErrID)
		_, err = s.Ensure(t.Context(), bad)
		require.ErrorIs(t, err, ErrID)
	}
	_, err = s.Open(idOf("two"))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = Open(filepath.Join(s.dir, id, "x"), Config{})
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

// Of what cannot be kept nothing is left.
func TestPutFails(t *testing.T) {
	s := open(t, Config{})
	broken := errors.New("the line is cut")
	for _, c := range []struct {
		r    io.Reader
		want string
		err  error
	}{
		{io.MultiReader(strings.NewReader("half"), failing{broken}), "", broken},
		{strings.NewReader("one"), idOf("two"), ErrHash},
		{strings.NewReader("one"), "two", ErrID},
		{io.LimitReader(zeros{}, MaxSize+1), "", ErrTooLarge},
	} {
		_, _, err := s.Put(c.r, c.want)
		require.ErrorIs(t, err, c.err)
		require.Empty(t, files(t, s))
	}
	require.NoError(t, os.RemoveAll(s.dir))
	_, _, err := s.Put(strings.NewReader("one"), "")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = s.Collect(nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk).Run(); err != nil {
		t.Skip("nothing can be mounted here:", err)
	}
	t.Cleanup(func() { _ = exec.Command("umount", disk).Run() })
	s, err := Open(filepath.Join(disk, "blobs"), Config{})
	require.NoError(t, err)
	_, _, err = s.Put(io.LimitReader(zeros{}, 1<<20), "")
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Empty(t, files(t, s))

	big := open(t, Config{})
	id := put(t, big, strings.Repeat("x", 1<<20))
	s.cfg = Config{Member: "a", Others: func() []string { return []string{"b"} }, Conn: serve(t, big, "a")}
	_, err = s.Ensure(t.Context(), id)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, ErrNotFound)
	require.Empty(t, files(t, s))
	put(t, s, "small")
}

func TestCollect(t *testing.T) {
	s := open(t, Config{})
	young, old, named := put(t, s, "young"), put(t, s, "old"), put(t, s, "named")
	past := time.Now().Add(-Grace - time.Minute)
	for _, id := range []string{old, named} {
		require.NoError(t, os.Chtimes(s.file(id), past, past))
	}
	n, err := s.Collect(map[string]bool{named: true})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.ElementsMatch(t, []string{young, named}, files(t, s))
	n, err = s.Collect(nil) // it was named until now
	require.NoError(t, err)
	require.Zero(t, n)

	require.NoError(t, os.Chtimes(s.file(young), past, past))
	path, err := s.Ensure(t.Context(), young) // in use
	require.NoError(t, err)
	require.Equal(t, s.file(young), path)
	n, err = s.Collect(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// serve serves the blobs of a store to a caller of a name, and returns how to reach it.
func serve(t *testing.T, s *Store, caller string) func(string) (*grpc.ClientConn, error) {
	t.Helper()
	return serveWith(t, func(r grpc.ServiceRegistrar) {
		Register(r, s, func(credentials.AuthInfo) (string, bool) { return caller, caller != "" })
	})
}

func serveWith(t *testing.T, register func(grpc.ServiceRegistrar)) func(string) (*grpc.ClientConn, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "blob")
	require.NoError(t, err)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	srv := grpc.NewServer()
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Stop
	}()
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
		_ = os.RemoveAll(dir)
	})
	return func(string) (*grpc.ClientConn, error) { return conn, nil }
}

func TestEnsure(t *testing.T) {
	b := open(t, Config{})
	big := strings.Repeat("0123456789abcdef", 1<<16)
	id := put(t, b, big)
	conn := serve(t, b, "a")
	var dialled atomic.Int32
	gone := errors.New("it is gone")
	a := open(t, Config{
		Member: "a", Others: func() []string { return []string{"gone", "b"} },
		Conn: func(member string) (*grpc.ClientConn, error) {
			if member == "gone" {
				return nil, gone
			}
			dialled.Add(1)
			return conn(member)
		},
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			path, err := a.Ensure(t.Context(), id)
			if err != nil || path != a.file(id) {
				t.Errorf("ensure: %s, %v", path, err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, dialled.Load())
	require.Equal(t, big, content(t, a, id))
	require.Equal(t, []string{id}, files(t, a))

	_, err := a.Ensure(t.Context(), idOf("none"))
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, "not all could be asked: member gone: it is gone")
	a.cfg.Others = func() []string { return []string{"b"} }
	_, err = a.Ensure(t.Context(), idOf("none"))
	require.EqualError(t, err, "find blob "+idOf("none")+": no member has it")
	a.cfg.Others = nil
	_, err = a.Ensure(t.Context(), idOf("none"))
	require.ErrorIs(t, err, ErrNotFound)
}

// A blob that is damaged on one member, or breaks off there, is had from another.
func TestEnsureFromAnother(t *testing.T) {
	good, bad := open(t, Config{}), open(t, Config{})
	id := put(t, good, "good")
	require.NoError(t, os.WriteFile(bad.file(id), []byte("bad"), 0o600))
	conns := map[string]func(string) (*grpc.ClientConn, error){
		"bad": serve(t, bad, "a"), "good": serve(t, good, "a"), "stranger": serve(t, good, "c"), "nobody": serve(t, good, ""),
		"half": serveWith(t, func(r grpc.ServiceRegistrar) { blobpb.RegisterBlobsServer(r, half{}) }),
	}
	a := open(t, Config{Member: "a", Conn: func(m string) (*grpc.ClientConn, error) { return conns[m](m) }})
	a.cfg.Others = func() []string { return []string{"bad", "half", "stranger", "nobody"} }
	_, err := a.Ensure(t.Context(), id)
	require.ErrorIs(t, err, ErrNotFound)
	for _, want := range []string{"member bad: keep blob: its content has another hash", "member half: the disk is broken", `the certificate is of "c", not of "a"`} {
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, files(t, a))
	a.cfg.Others = func() []string { return []string{"bad", "half", "good"} }
	_, err = a.Ensure(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "good", content(t, a, id))
}

type half struct {
	blobpb.UnimplementedBlobsServer
}

func (half) Fetch(_ *blobpb.FetchRequest, stream grpc.ServerStreamingServer[blobpb.FetchResponse]) error {
	if err := stream.Send(&blobpb.FetchResponse{Chunk: []byte("go")}); err != nil {
		return err
	}
	return status.Error(codes.FailedPrecondition, "the disk is broken"+strings.Repeat("!", 2*maxReason))
}

func TestEnsureIsGivenUp(t *testing.T) {
	var asked sync.WaitGroup
	asked.Add(1)
	a := open(t, Config{Member: "a", Others: func() []string { return []string{"slow"} }, Conn: serveWith(t, func(r grpc.ServiceRegistrar) {
		blobpb.RegisterBlobsServer(r, slow{asked: sync.OnceFunc(asked.Done)})
	})})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := a.Ensure(ctx, idOf("x"))
		first <- err
	}()
	asked.Wait()
	waiting, stop := context.WithCancel(t.Context())
	stop()
	_, err := a.Ensure(waiting, idOf("x"))
	require.ErrorIs(t, err, context.Canceled)
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.Empty(t, files(t, a))
}

type slow struct {
	blobpb.UnimplementedBlobsServer
	asked func()
}

func (s slow) Fetch(_ *blobpb.FetchRequest, stream grpc.ServerStreamingServer[blobpb.FetchResponse]) error {
	s.asked()
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestFetchChecksTheID(t *testing.T) {
	conn, err := serve(t, open(t, Config{}), "a")("b")
	require.NoError(t, err)
	stream, err := blobpb.NewBlobsClient(conn).Fetch(t.Context(), &blobpb.FetchRequest{Member: "a", Id: "../../etc/passwd"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.NotContains(t, err.Error(), "passwd")
}
