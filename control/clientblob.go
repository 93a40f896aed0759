package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	controlpb "github.com/debughost/debughost/control/proto"
)

// blobChunk is how much of a blob goes into one message.
const blobChunk = 64 << 10

// UploadBlob sends all that r has, and returns the id by which specs name it and its
// size in bytes. An error of r is wrapped.
func (c *Client) UploadBlob(ctx context.Context, r io.Reader) (id string, size uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Children.UploadBlob(ctx)
	if err != nil {
		return "", 0, err
	}
	buf := make([]byte, blobChunk)
	for {
		n, readErr := io.ReadFull(r, buf)
		end := errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF)
		if readErr != nil && !end {
			return "", 0, fmt.Errorf("upload blob: %w", readErr)
		}
		// Where the server has given up, sending fails with io.EOF, and the answer says why.
		if sendErr := stream.Send(&controlpb.UploadBlobRequest{Chunk: buf[:n]}); sendErr != nil || end {
			break
		}
	}
	res, err := stream.CloseAndRecv()
	return res.GetId(), res.GetSize(), err
}

// DownloadBlob writes the content of a blob. Without an error it is complete.
func (c *Client) DownloadBlob(ctx context.Context, id string, w io.Writer) error {
	return copyChunks(ctx, w, func(ctx context.Context) (grpc.ServerStreamingClient[controlpb.DownloadBlobResponse], error) {
		return c.Children.DownloadBlob(ctx, &controlpb.DownloadBlobRequest{Id: id})
	})
}

// SnapshotChild writes the state of a child that runs on. Without an error it is
// complete.
func (c *Client) SnapshotChild(ctx context.Context, id string, w io.Writer) error {
	return copyChunks(ctx, w, func(ctx context.Context) (grpc.ServerStreamingClient[controlpb.SnapshotChildResponse], error) {
		return c.Children.SnapshotChild(ctx, &controlpb.SnapshotChildRequest{Id: id})
	})
}

// chunked is a message with a piece of something longer.
type chunked[M any] interface {
	*M
	GetChunk() []byte
}

func copyChunks[M any, P chunked[M]](ctx context.Context, w io.Writer, open func(context.Context) (grpc.ServerStreamingClient[M], error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return err
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(P(in).GetChunk()); err != nil {
			return err
		}
	}
}
