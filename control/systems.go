package control

import (
	"context"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// MaxSystemWindow bounds how long the activity of a node is looked at.
const MaxSystemWindow = target.MaxSystemWindow

// systemsService asks about nodes as a whole, their applications and trees.
type systemsService struct {
	controlpb.UnimplementedSystemsServer
	ask Questions
}

func (s *systemsService) GetSystems(ctx context.Context, req *controlpb.GetSystemsRequest) (*controlpb.GetSystemsResponse, error) {
	const tried = "ask nodes of themselves"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	if err != nil {
		return nil, err
	}
	window, err := duration(tried, "window", req.GetWindow(), MaxSystemWindow)
	if err != nil {
		return nil, err
	}
	res := &controlpb.GetSystemsResponse{}
	s.ask.System(ctx, target.SystemQuery{Ask: ask, Window: window}, answersTo(&res.Errors, func(node string, sys target.System) {
		res.Systems = append(res.Systems, systemPB(node, sys))
	}))
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}

func systemPB(node string, s target.System) *controlpb.System {
	p := &controlpb.System{
		Node: clean(node), OtpRelease: clean(s.OTPRelease), ErtsVersion: clean(s.Version), ElixirVersion: clean(s.ElixirVersion),
		SystemArchitecture: clean(s.Architecture), EmuFlavor: clean(s.EmuFlavor), OsPid: clean(s.OSPid), Uptime: durationpb.New(s.Uptime),
		LogicalProcessors: s.LogicalProcessors, LogicalProcessorsAvailable: s.LogicalProcessorsAvailable,
		Schedulers: s.Schedulers, SchedulersOnline: s.SchedulersOnline,
		DirtyCpuSchedulers: s.DirtyCPUSchedulers, DirtyIoSchedulers: s.DirtyIOSchedulers,
		Modules: s.Modules, RunQueues: s.RunQueues, DistBufBusyLimit: s.QueueLimit,
	}
	for _, m := range s.Memory {
		p.Memory = append(p.Memory, &controlpb.Amount{Name: clean(m.Name), Value: m.Value})
	}
	for _, a := range s.Allocators {
		p.Allocators = append(p.Allocators, &controlpb.Allocator{Name: clean(a.Name), Blocks: a.Blocks, Carriers: a.Carriers})
	}
	for _, l := range s.Limits {
		p.Limits = append(p.Limits, &controlpb.TableLimit{Name: clean(l.Name), Used: l.Used, Limit: l.Limit})
	}
	for _, n := range s.Nodes {
		p.Nodes = append(p.Nodes, &controlpb.ConnectedNode{
			Name: clean(n.Name), Hidden: n.Hidden, Queue: n.Queue, Messages: n.Messages, Input: n.Input, Output: n.Output,
		})
	}
	if s.Window > 0 {
		p.Activity = &controlpb.Activity{
			Window: durationpb.New(s.Window), Schedulers: s.Busy, Total: s.BusyTotal, DirtyCpu: s.DirtyCPU, DirtyIo: s.DirtyIO,
		}
		for _, r := range s.Activity {
			p.Activity.Rates = append(p.Activity.Rates, &controlpb.Rate{Name: clean(r.Name), Value: r.Value})
		}
	}
	return p
}

func (s *systemsService) ListApplications(ctx context.Context, req *controlpb.ListApplicationsRequest) (*controlpb.ListApplicationsResponse, error) {
	const tried = "list applications"
	ask, err := nodesAsk(tried, req.GetNodes(), req.GetTimeout())
	if err != nil {
		return nil, err
	}
	res := &controlpb.ListApplicationsResponse{}
	s.ask.Apps(ctx, target.AppsQuery{Ask: ask}, answersTo(&res.Errors, func(node string, apps []target.App) {
		for _, a := range apps {
			res.Applications = append(res.Applications, &controlpb.Application{
				Node: clean(node), Name: clean(a.Name), Version: clean(a.Version), Description: clean(a.Description),
				State: clean(a.State), StartType: clean(a.StartType), Processes: a.Processes, Memory: a.Memory,
			})
		}
	}))
	if err := ctx.Err(); err != nil {
		return nil, describe(tried, err)
	}
	return res, nil
}

func (s *systemsService) GetEnvironment(ctx context.Context, req *controlpb.GetEnvironmentRequest) (*controlpb.GetEnvironmentResponse, error) {
	tried := "read the environment of " + req.GetApplication() + " on " + req.GetNode()
	if err := checkNode(tried, req.GetNode()); err != nil {
		return nil, err
	}
	if req.GetApplication() == "" {
		return nil, badRequest(tried, "it names no application")
	}
	if err := checkApplication(tried, req.GetApplication()); err != nil {
		return nil, err
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	if req.GetMaxBytes() > MaxBytes {
		return nil, badRequest(tried, "terms of %d bytes are wanted, %d may be", req.GetMaxBytes(), MaxBytes)
	}
	q := target.EnvQuery{App: req.GetApplication(), InspectQuery: target.InspectQuery{
		Node: req.GetNode(), MaxBytes: int(req.GetMaxBytes()), Timeout: timeout,
	}}
	switch req.GetSyntax() {
	case "", "auto":
		q.ElixirGuess = true
	case "elixir":
		q.Elixir = true
	case "erlang":
	default:
		return nil, badRequest(tried, "syntax %q is none of auto, erlang, elixir", req.GetSyntax())
	}
	env, err := s.ask.Env(ctx, q)
	if err != nil {
		return nil, describe(tried, err)
	}
	b := &budget{left: maxDetail}
	return &controlpb.GetEnvironmentResponse{
		Node: clean(env.Node), Application: clean(env.App), Entries: entriesPB(b, "environment", env.Entries), Total: uint64(env.Total),
	}, nil
}

func (s *systemsService) GetTree(ctx context.Context, req *controlpb.GetTreeRequest) (*controlpb.GetTreeResponse, error) {
	tried := "read the supervision tree of " + req.GetNode()
	if err := checkNode(tried, req.GetNode()); err != nil {
		return nil, err
	}
	if err := checkApplication(tried, req.GetApplication()); err != nil {
		return nil, err
	}
	switch {
	case req.GetDepth() > target.MaxTreeDepth:
		return nil, badRequest(tried, "a depth of %d is wanted, %d may be", req.GetDepth(), target.MaxTreeDepth)
	case req.GetChildren() > target.MaxTree:
		return nil, badRequest(tried, "%d children of each supervisor are wanted, %d may be", req.GetChildren(), target.MaxTree)
	}
	timeout, err := duration(tried, "timeout", req.GetTimeout(), MaxTimeout)
	if err != nil {
		return nil, err
	}
	tree, err := s.ask.Tree(ctx, target.TreeQuery{
		Node: req.GetNode(), App: req.GetApplication(), Depth: int(req.GetDepth()), Children: int(req.GetChildren()),
		Supervised: req.GetSupervised(), Timeout: timeout,
	})
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.GetTreeResponse{Tree: treePB(tree, &budget{left: maxDetail})}, nil
}

// treePB spends the budget on nodes of the tree; children that it does not reach
// are counted as cut.
func treePB(n *target.TreeNode, b *budget) *controlpb.TreeNode {
	p := &controlpb.TreeNode{
		Name: clean(n.Name), Id: clean(n.ID), Pid: clean(n.Pid), Type: clean(n.Type), Restart: clean(n.Restart),
		Shutdown: clean(n.Shutdown), Module: clean(n.Module), InitialCall: clean(n.InitialCall), Parent: clean(n.Parent),
		Unsupervised: n.Unsupervised, Status: clean(n.Status), Memory: n.Memory, MessageQueueLen: n.MessageQueueLen,
		CurrentFunction: clean(n.CurrentFunction), Strategy: clean(n.Strategy), Intensity: n.Intensity, Period: n.Period,
		RecentRestarts: n.Recent, Restarts: n.Restarts, Total: n.Total, Cut: n.Cut(), Problem: clean(n.Problem),
	}
	fit := b.take("children", len(n.Children), func(i int) int {
		c := n.Children[i]
		return len(c.Name) + len(c.ID) + len(c.Module) + len(c.InitialCall) + len(c.CurrentFunction) + 100
	})
	p.Cut += uint64(len(n.Children) - fit)
	for _, c := range n.Children[:fit] {
		p.Children = append(p.Children, treePB(c, b))
	}
	return p
}

func checkApplication(tried, app string) error {
	if len(app) > 4*255 || !utf8.ValidString(app) {
		return badRequest(tried, "no application has such a name")
	}
	return nil
}
