package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	blobpb "github.com/debughost/debughost/host/blob/proto"
)

const (
	// chunkSize bounds a message.
	chunkSize = 64 << 10
	// maxReason bounds what is told of another member's failure.
	maxReason = 300
)

// Register adds the service to a server that members call. peerName tells which member
// a certificate belongs to; callers of which it does not know that are refused.
func Register(r grpc.ServiceRegistrar, s *Store, peerName func(credentials.AuthInfo) (string, bool)) {
	blobpb.RegisterBlobsServer(r, &server{store: s, peerName: peerName})
}

type server struct {
	blobpb.UnimplementedBlobsServer
	store    *Store
	peerName func(credentials.AuthInfo) (string, bool)
}

// Fetch implements the service.
func (s *server) Fetch(req *blobpb.FetchRequest, stream grpc.ServerStreamingServer[blobpb.FetchResponse]) error {
	p, ok := peer.FromContext(stream.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "it is not known who asks")
	}
	if name, known := s.peerName(p.AuthInfo); !known || name != req.GetMember() {
		return status.Errorf(codes.PermissionDenied, "the certificate is of %.200q, not of %.200q", name, req.GetMember())
	}
	f, err := s.store.Open(req.GetId())
	switch {
	case errors.Is(err, ErrNotFound):
		return status.Error(codes.NotFound, ErrNotFound.Error())
	case errors.Is(err, ErrID):
		return status.Error(codes.InvalidArgument, ErrID.Error())
	case err != nil:
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer f.Close()
	buf := make([]byte, chunkSize)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := stream.Send(&blobpb.FetchResponse{Chunk: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.Error(codes.FailedPrecondition, err.Error())
		}
	}
}

// Ensure returns the absolute path of a blob, which it fetches from another member where
// it is not here: from one after the other, until one has it. It is fetched once for all
// that ask at a time. The file stays for Grace, and for as long as it is named. Where no
// member has it, it fails with ErrNotFound, and where some did not answer with an
// ErrSilent, and their errors, too.
func (s *Store) Ensure(ctx context.Context, id string) (path string, err error) {
	if err := Check(id); err != nil {
		return "", fmt.Errorf("find blob: %w", err)
	}
	if path, ok := s.path(id); ok {
		return path, nil
	}
	release, err := s.alone(ctx, id)
	if err != nil {
		return "", fmt.Errorf("find blob %s: %w", id, err)
	}
	defer release()
	if path, ok := s.path(id); ok {
		return path, nil // by now
	}
	if err := s.fetch(ctx, id); err != nil {
		return "", fmt.Errorf("find blob %s: %w", id, err)
	}
	return s.file(id), nil
}

// alone waits until nobody else fetches a blob.
func (s *Store) alone(ctx context.Context, id string) (release func(), err error) {
	for {
		s.mu.Lock()
		ended := s.fetching[id]
		if ended == nil {
			ended = make(chan struct{})
			s.fetching[id] = ended
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.fetching, id)
				s.mu.Unlock()
				close(ended)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// errNobody is an ErrNotFound.
var errNobody = nobodyError{}

type nobodyError struct{}

func (nobodyError) Error() string        { return "no member has it" }
func (nobodyError) Is(target error) bool { return target == ErrNotFound }

// fetch asks the other members.
func (s *Store) fetch(ctx context.Context, id string) error {
	var others []string
	if s.cfg.Others != nil {
		others = s.cfg.Others()
	}
	var silent []string
	var here *fs.PathError
	for _, member := range others {
		err := s.fetchFrom(ctx, member, id)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &here):
			return err // it is this member that cannot
		case status.Code(err) == codes.NotFound:
			continue
		}
		silent = append(silent, fmt.Sprintf("member %s: %s", member, reason(err)))
	}
	if len(silent) > 0 {
		return fmt.Errorf("%w of those that could be asked, and %w: %s", errNobody, ErrSilent, strings.Join(silent, "; "))
	}
	return errNobody
}

// idleTime is how long nothing may come from a member, before the next one is asked.
const idleTime = 15 * time.Second

func (s *Store) fetchFrom(ctx context.Context, member, id string) error {
	conn, err := s.cfg.Conn(member)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(idleTime, cancel)
	defer idle.Stop()
	stream, err := blobpb.NewBlobsClient(conn).Fetch(ctx, &blobpb.FetchRequest{Member: s.cfg.Member, Id: id})
	if err != nil {
		return err
	}
	_, _, err = s.Put(&chunks{stream: stream, idle: idle}, id)
	return err
}

// chunks reads what another member sends.
type chunks struct {
	stream grpc.ServerStreamingClient[blobpb.FetchResponse]
	idle   *time.Timer // ends it, unless something comes
	rest   []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		in, err := c.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		c.idle.Reset(idleTime)
		c.rest = in.GetChunk()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// reason is what to tell of an error, bounded.
func reason(err error) string {
	text := err.Error()
	var theirs interface{ GRPCStatus() *status.Status }
	if errors.As(err, &theirs) {
		text = theirs.GRPCStatus().Message()
	}
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
