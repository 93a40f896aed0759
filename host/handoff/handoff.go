// Package handoff carries the state of a child from the member that runs it to the
// one that it is being moved to. A call is answered from what a source writes, in
// chunks as they come; neither end keeps them.
//
// It does not decide what is moved (package supervisor does), nor does it look into
// a snapshot, which is a sandbox plugin's own.
//
//	handoff.Register(grpcServer, handoff.Config{Source: supervisor.Snapshot, PeerName: cluster.PeerName})
//	err := handoff.Fetch(ctx, conn, "b", "web", 3, w)
package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	handoffpb "github.com/debughost/debughost/host/handoff/proto"
	"github.com/debughost/debughost/sdk"
)

const (
	// chunkSize bounds a message.
	chunkSize = 64 << 10
	// maxReason bounds what a caller is told of a failure, and what it believes.
	maxReason = 1000
)

// Config is what is served. Source writes the state of a child that is being moved
// to a member by an assignment of this epoch, and refuses all others; PeerName tells
// which member a certificate belongs to, and callers of which it does not know that
// are refused.
type Config struct {
	Source   func(ctx context.Context, member, child string, epoch uint64, w io.Writer) error
	PeerName func(credentials.AuthInfo) (string, bool)
}

// Register adds the service to a server that members call.
func Register(s grpc.ServiceRegistrar, cfg Config) {
	handoffpb.RegisterHandoffServer(s, &server{cfg: cfg})
}

type server struct {
	handoffpb.UnimplementedHandoffServer
	cfg Config
}

// Snapshot implements the service.
func (s *server) Snapshot(req *handoffpb.SnapshotRequest, stream grpc.ServerStreamingServer[handoffpb.SnapshotResponse]) error {
	ctx := stream.Context()
	member := req.GetMember()
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "it is not known who asks")
	}
	if name, known := s.cfg.PeerName(p.AuthInfo); !known || name != member {
		return status.Errorf(codes.PermissionDenied, "the certificate is of %.200q, not of %.200q", name, member)
	}
	err := s.cfg.Source(ctx, member, req.GetChild(), req.GetEpoch(), chunks(func(b []byte) error {
		return stream.Send(&handoffpb.SnapshotResponse{Chunk: b})
	}))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sdk.ErrUnsupported):
		return status.Error(codes.Unimplemented, reason(err.Error()))
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, reason(err.Error()))
	}
	return status.Error(codes.FailedPrecondition, reason(err.Error()))
}

// chunks cuts what is written into messages of a fair size.
type chunks func([]byte) error

func (send chunks) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		end := min(n+chunkSize, len(p))
		if err := send(p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return len(p), nil
}

// Fetch writes the state of a child of another member, which is being moved to
// self. Without an error it is complete.
func Fetch(ctx context.Context, conn grpc.ClientConnInterface, self, child string, epoch uint64, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := handoffpb.NewHandoffClient(conn).Snapshot(ctx, &handoffpb.SnapshotRequest{Member: self, Child: child, Epoch: epoch})
	if err != nil {
		return callError(ctx, err)
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return callError(ctx, err)
		}
		if _, err := w.Write(in.GetChunk()); err != nil {
			return fmt.Errorf("pass the snapshot on: %w", err)
		}
	}
}

// callError is what a call failed with, in the caller's words where it is the
// caller's doing.
func callError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st := status.Convert(err)
	e := &Error{Message: reason(st.Message())}
	switch st.Code() {
	case codes.Unimplemented:
		e.kind = sdk.ErrUnsupported
	case codes.DeadlineExceeded:
		e.kind = context.DeadlineExceeded
	}
	return e
}

// Error is what the other member says of a snapshot that it did not, or not wholly,
// send.
type Error struct {
	Message string
	kind    error // sdk.ErrUnsupported, context.DeadlineExceeded, or nil
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.kind }

func reason(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
