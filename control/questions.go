package control

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// Questions are what the targets of this member can be asked beside their
// processes. target.Manager answers them; its methods return when all targets
// have answered or failed, and hand out what they say from one goroutine at a
// time.
type Questions interface {
	Names(context.Context, target.NamesQuery, target.Answers[target.Names])
	Tables(context.Context, target.TablesQuery, target.Answers[target.Tables])
	TableRows(context.Context, target.TableRowsQuery) (target.TableRows, error)
	Mnesia(context.Context, target.MnesiaQuery, target.Answers[target.Mnesia])
	Ports(context.Context, target.PortsQuery, target.Answers[target.Ports])
	Timers(context.Context, target.TimersQuery, target.Answers[target.Timers])
	Groups(context.Context, target.GroupsQuery, target.Answers[target.Groups])
	System(context.Context, target.SystemQuery, target.Answers[target.System])
	Apps(context.Context, target.AppsQuery, target.Answers[[]target.App])
	Env(context.Context, target.EnvQuery) (target.Env, error)
	Tree(context.Context, target.TreeQuery) (*target.TreeNode, error)
	Code(context.Context, target.CodeQuery) (target.Code, error)
	ObjectCode(context.Context, target.ModulesQuery) ([]target.ObjectCode, error)
	States(context.Context, target.StatesQuery) ([]byte, error)
	Logs(context.Context, target.LogQuery, target.LogSink) error // returns when ctx ends, or a question for what is kept is answered
	Diagnose(context.Context, target.DiagnoseQuery, target.Answers[target.Diagnosis])
	Snapshot(context.Context, target.SnapshotQuery, target.Answers[target.Snapshot])
	State(context.Context, target.StateQuery) (target.ProcessState, error)
	Graph(context.Context, target.GraphQuery) (target.Graph, error)
	Act(context.Context, target.Act) (target.Done, error)
	Eval(context.Context, target.EvalQuery) (target.EvalResult, error)
	Shell(context.Context, target.ShellQuery, <-chan target.ShellInput, func(target.ShellOutput) error) error
}

// registerQuestions serves what Options.Questions answers.
func (s *Server) registerQuestions(srv grpc.ServiceRegistrar) {
	q := s.opts.Questions
	if q == nil {
		return
	}
	controlpb.RegisterNodesServer(srv, &nodesService{ask: q})
	controlpb.RegisterTablesServer(srv, &tablesService{ask: q})
	controlpb.RegisterResourcesServer(srv, &resourcesService{ask: q})
	controlpb.RegisterSystemsServer(srv, &systemsService{ask: q})
	controlpb.RegisterLogsServer(srv, &logsService{ask: q, targets: s.engine, forward: s.forward, drain: s.drain})
	controlpb.RegisterFindingsServer(srv, &findingsService{ask: q})
	controlpb.RegisterDepthServer(srv, &depthService{ask: q})
	controlpb.RegisterActsServer(srv, &actsService{ask: q})
	controlpb.RegisterShellServer(srv, &shellService{ask: q, forward: s.forward, drain: s.drain})
}

// nodesAsk reads what all questions to several targets have in common.
func nodesAsk(tried string, nodes []string, timeout *durationpb.Duration) (target.Ask, error) {
	if len(nodes) > maxNodes {
		return target.Ask{}, badRequest(tried, "%d nodes are named, %d may be", len(nodes), maxNodes)
	}
	for _, n := range nodes {
		if err := checkNode(tried, n); err != nil {
			return target.Ask{}, err
		}
	}
	d, err := duration(tried, "timeout", timeout, MaxTimeout)
	return target.Ask{Nodes: nodes, Timeout: d}, err
}

// answersTo has the errors of targets put into an answer's field errors, and the
// rest done by add.
func answersTo[T any](errs *[]*controlpb.NodeError, add func(node string, answer T)) target.Answers[T] {
	return target.Answers[T]{
		Answer: add,
		Failed: func(f target.NodeError) { *errs = append(*errs, nodeErrorPB(f)) },
	}
}

func nodeErrorPB(f target.NodeError) *controlpb.NodeError {
	e := describe("", f.Err)
	return &controlpb.NodeError{Node: clean(f.Node), Error: e.Cause, Hint: clean(e.Hint), Code: string(e.Code)}
}
