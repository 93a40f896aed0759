package control

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/blob"
)

// maxChunk bounds what one message has of a blob, in bytes.
const maxChunk = 1 << 20

// UploadBlob keeps what comes on this member.
func (s *childService) UploadBlob(stream controlpb.Children_UploadBlobServer) error {
	const tried = "upload blob"
	if err := s.there(tried); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkPiece(tried, first); err != nil {
		return err
	}
	if want := first.GetId(); want != "" && blob.Check(want) != nil {
		return badRequest(tried, "%.80q is no id of a blob", clean(want))
	}
	id, size, err := s.engine.PutBlob(&upload{stream: stream, rest: first.GetChunk()}, first.GetId())
	if err != nil {
		return blobError(tried, err)
	}
	return stream.SendAndClose(&controlpb.UploadBlobResponse{Id: id, Size: uint64(size)})
}

func checkPiece(tried string, in *controlpb.UploadBlobRequest) error {
	if n := len(in.GetChunk()); n > maxChunk {
		return badRequest(tried, "a piece of it has %d bytes, and at most %d may be in one message", n, maxChunk)
	}
	return nil
}

// upload reads what a caller sends.
type upload struct {
	stream controlpb.Children_UploadBlobServer
	rest   []byte
}

func (u *upload) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		in, err := u.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		if err := checkPiece("upload blob", in); err != nil {
			return 0, err
		}
		u.rest = in.GetChunk()
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// DownloadBlob sends a blob, which is fetched from another member where it is not here.
func (s *childService) DownloadBlob(req *controlpb.DownloadBlobRequest, stream controlpb.Children_DownloadBlobServer) error {
	tried := "download blob " + clean(req.GetId()[:min(len(req.GetId()), 80)])
	if err := s.there(tried); err != nil {
		return err
	}
	if blob.Check(req.GetId()) != nil {
		return badRequest(tried, "that is no id of a blob")
	}
	f, err := s.engine.OpenBlob(stream.Context(), req.GetId())
	if err != nil {
		return blobError(tried, err)
	}
	defer f.Close()
	_, err = io.CopyBuffer(pieces(func(b []byte) error { return stream.Send(&controlpb.DownloadBlobResponse{Chunk: b}) }), onlyReader{f}, make([]byte, blobChunk))
	return err
}

// onlyReader hides what else a reader can, so that what is copied from it is cut as the
// buffer says.
type onlyReader struct{ io.Reader }

// pieces sends what is written in messages of a fair size.
type pieces func([]byte) error

func (send pieces) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		end := min(n+blobChunk, len(p))
		if err := send(p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return len(p), nil
}

func blobError(tried string, err error) error {
	e := *describe(tried, err)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		e.Hint = childHints[NoBlob]
	case errors.Is(err, blob.ErrTooLarge), errors.Is(err, blob.ErrHash), errors.Is(err, blob.ErrID):
		e.Code = BadRequest
	}
	return &e
}

// SnapshotChild passes the call on to the member that runs the child.
func (s *childService) SnapshotChild(req *controlpb.SnapshotChildRequest, stream controlpb.Children_SnapshotChildServer) error {
	tried := "take snapshot of child " + clean(req.GetId())
	if err := s.child(tried, req.GetId()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.drain, func() {
		cancel(&Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"})
	})()
	runner, err := s.engine.ChildRunner(req.GetId())
	w := pieces(func(b []byte) error { return stream.Send(&controlpb.SnapshotChildResponse{Chunk: b}) })
	switch {
	case err != nil:
	case s.elsewhere(ctx, runner):
		err = s.snapshotThere(ctx, runner, req, w)
	default:
		err = s.engine.SnapshotChild(ctx, req.GetId(), w)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return childError(tried, err)
}

func (s *childService) snapshotThere(ctx context.Context, runner string, req *controlpb.SnapshotChildRequest, w io.Writer) error {
	f := s.forward
	conn, err := f.peers.Conn(runner)
	if err != nil {
		return &lostError{member: runner, err: err}
	}
	f.passed.Add(1)
	ctx, cancel := f.outgoing(ctx)
	defer cancel()
	err = copyChunks(ctx, w, func(ctx context.Context) (grpc.ServerStreamingClient[controlpb.SnapshotChildResponse], error) {
		return controlpb.NewChildrenClient(conn).SnapshotChild(ctx, req)
	})
	if err != nil {
		return f.peerError(ctx, runner, true, err)
	}
	return nil
}
