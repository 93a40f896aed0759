package control

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// What a front-end needs to know of evaluations and shells.
const (
	MaxExpression = target.MaxExpression // bytes
	MaxShellLine  = target.MaxShellLine  // bytes

	LanguageAuto   = target.LanguageAuto
	LanguageErlang = target.LanguageErlang
	LanguageElixir = target.LanguageElixir

	EvalValue     = target.EvalValue
	EvalException = target.EvalException
	EvalTimeout   = target.EvalTimeout
)

// maxSide bounds a terminal, in columns and rows.
const maxSide = 10_000

// shellService runs code on nodes.
type shellService struct {
	controlpb.UnimplementedShellServer
	ask     Questions
	forward *forwarder
	drain   context.Context
}

func (s *shellService) Evaluate(ctx context.Context, req *controlpb.EvaluateRequest) (*controlpb.EvaluateResponse, error) {
	tried := "evaluate on " + req.GetNode()
	if err := checkNode(tried, req.GetNode()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	switch {
	case err != nil:
		return nil, err
	case req.GetMaxBytes() > MaxBytes:
		return nil, badRequest(tried, "a text of %d bytes is wanted, %d may be", req.GetMaxBytes(), MaxBytes)
	}
	r, err := s.ask.Eval(ctx, target.EvalQuery{
		Node: req.GetNode(), Expression: req.GetExpression(), Language: req.GetLanguage(),
		MaxBytes: int(req.GetMaxBytes()), Timeout: timeout,
	})
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.EvaluateResponse{
		Node: clean(r.Node), Language: r.Language, Outcome: r.Outcome, Value: clean(r.Value), Text: clean(r.Text),
		Truncated: r.Truncated, Output: clean(r.Output), OutputLeft: r.OutputLeft,
	}, nil
}

type shellStream = grpc.BidiStreamingServer[controlpb.OpenShellRequest, controlpb.OpenShellResponse]

func (s *shellService) OpenShell(stream shellStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	tried := "open shell on " + start.GetNode()
	if start == nil {
		return badRequest("open shell", "the first request must say on which node")
	}
	if err := checkNode(tried, start.GetNode()); err != nil {
		return err
	}
	timeout, err := duration(tried, "timeout", start.GetTimeout(), MaxTimeout)
	if err != nil {
		return err
	}
	if f := s.forward; f.peers != nil {
		node, member, err := f.peers.Owner(start.GetNode())
		switch {
		case err != nil:
			return describe(tried, err)
		case callerFrom(stream.Context()).Forwarded && member != f.peers.Self():
			return f.notOwner(node)
		case member != "" && member != f.peers.Self():
			start = proto.CloneOf(start)
			start.Node = clean(node)
			return s.pass(tried, member, start, stream)
		}
	}
	columns, rows := sides(start.GetSize())
	return s.run(tried, target.ShellQuery{
		Node: start.GetNode(), Language: start.GetLanguage(), Columns: columns, Rows: rows, Timeout: timeout,
	}, stream)
}

func sides(size *controlpb.ShellSize) (columns, rows int) {
	return int(min(size.GetColumns(), maxSide)), int(min(size.GetRows(), maxSide))
}

// run has the shell on a target of this member.
func (s *shellService) run(tried string, q target.ShellQuery, stream shellStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	stopping := &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
	defer context.AfterFunc(s.drain, func() { cancel(stopping) })()
	in := make(chan target.ShellInput)
	go receiveShell(ctx, cancel, tried, stream, in) // ends when the call does, soon after run
	err := s.ask.Shell(ctx, q, in, func(o target.ShellOutput) error {
		return stream.Send(shellOutputPB(o))
	})
	var ours *Error
	if errors.As(context.Cause(ctx), &ours) {
		return ours
	}
	if err != nil {
		return describe(tried, err)
	}
	return nil
}

// receiveShell hands on what the person does, and closes in when they go.
func receiveShell(ctx context.Context, cancel context.CancelCauseFunc, tried string, stream shellStream, in chan<- target.ShellInput) {
	defer close(in)
	for {
		req, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				cancel(err)
			}
			return
		}
		i, err := shellInput(tried, req)
		if err != nil {
			cancel(err)
			return
		}
		select {
		case in <- i:
		case <-ctx.Done():
			return
		}
	}
}

func shellInput(tried string, req *controlpb.OpenShellRequest) (target.ShellInput, error) {
	switch i := req.GetInput().(type) {
	case *controlpb.OpenShellRequest_Line:
		line := i.Line.GetText() + i.Line.GetPassword() // one of them
		if len(line) > target.MaxShellLine {
			return target.ShellInput{}, badRequest(tried, "a line is longer than %d bytes", target.MaxShellLine)
		}
		return target.ShellInput{Kind: target.InputLine, Line: line}, nil
	case *controlpb.OpenShellRequest_Interrupt:
		return target.ShellInput{Kind: target.InputInterrupt}, nil
	case *controlpb.OpenShellRequest_Complete:
		if len(i.Complete.GetBefore()) > target.MaxShellLine {
			return target.ShellInput{}, badRequest(tried, "a line is longer than %d bytes", target.MaxShellLine)
		}
		return target.ShellInput{Kind: target.InputComplete, ID: i.Complete.GetId(), Line: i.Complete.GetBefore()}, nil
	case *controlpb.OpenShellRequest_Size:
		columns, rows := sides(i.Size)
		return target.ShellInput{Kind: target.InputSize, Columns: columns, Rows: rows}, nil
	}
	return target.ShellInput{}, badRequest(tried, "a request after the first has no input that is known")
}

func shellOutputPB(o target.ShellOutput) *controlpb.OpenShellResponse {
	switch o.Kind {
	case target.OutputStarted:
		return &controlpb.OpenShellResponse{Output: &controlpb.OpenShellResponse_Started{
			Started: &controlpb.ShellStarted{Node: clean(o.Node), Language: clean(o.Language)},
		}}
	case target.OutputRead:
		return &controlpb.OpenShellResponse{Output: &controlpb.OpenShellResponse_Read{
			Read: &controlpb.ShellRead{Prompt: clean(o.Text), Wanted: clean(o.Wanted), More: o.More},
		}}
	case target.OutputCompletions:
		return &controlpb.OpenShellResponse{Output: &controlpb.OpenShellResponse_Completions{
			Completions: &controlpb.ShellCompletions{Id: o.ID, Insert: clean(o.Text), Matches: cleanAll(o.Matches)},
		}}
	}
	return &controlpb.OpenShellResponse{Output: &controlpb.OpenShellResponse_Text{Text: clean(o.Text)}}
}

// pass has another member run the shell, and carries both sides.
func (s *shellService) pass(tried, member string, start *controlpb.ShellStart, stream shellStream) error {
	f := s.forward
	conn, err := f.peers.Conn(member)
	if err != nil {
		return describe(tried, &lostError{member: member, err: err})
	}
	f.passed.Add(1)
	ctx, cancel := f.outgoing(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.drain, cancel)()
	fail := func(err error) error {
		if s.drain.Err() != nil {
			return &Error{Code: Stopping, Tried: tried, Cause: tried + ": debughost is stopping"}
		}
		return describe(tried, f.peerError(ctx, member, true, err))
	}
	there, err := controlpb.NewShellClient(conn).OpenShell(ctx, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return fail(err)
	}
	_ = there.Send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Start{Start: start}}) // Recv tells why not
	go func() {                                                                                         // ends when the call does, soon after pass
		for {
			req, err := stream.Recv()
			if err != nil || there.Send(req) != nil {
				_ = there.CloseSend()
				return
			}
		}
	}()
	for {
		res, err := there.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fail(err)
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}
