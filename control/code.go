package control

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// maxCodeModules bounds the modules of one request.
const maxCodeModules = 20_000

// codeAsk reads what questions for code to one node have in common. Names are those
// of applications, modules or processes.
func codeAsk(tried, node string, names []string, timeout *durationpb.Duration) (target.Ask, error) {
	if err := checkNode(tried, node); err != nil {
		return target.Ask{}, err
	}
	if len(names) > maxCodeModules {
		return target.Ask{}, badRequest(tried, "%d are named, and at most %d may be", len(names), maxCodeModules)
	}
	for _, name := range names {
		if err := checkApplication(tried, name); err != nil || name == "" {
			return target.Ask{}, badRequest(tried, "%.80q is no name", clean(name))
		}
	}
	d, err := duration(tried, "timeout", timeout, MaxTimeout)
	return target.Ask{Timeout: d}, err
}

func (s *systemsService) DescribeCode(ctx context.Context, req *controlpb.DescribeCodeRequest) (*controlpb.DescribeCodeResponse, error) {
	tried := "take code from " + clean(req.GetNode())
	ask, err := codeAsk(tried, req.GetNode(), req.GetApplications(), req.GetTimeout())
	if err != nil {
		return nil, err
	}
	code, err := s.ask.Code(ctx, target.CodeQuery{Ask: ask, Node: req.GetNode(), Apps: req.GetApplications(), Secrets: req.GetSecrets()})
	if err != nil {
		return nil, describe(tried, err)
	}
	res := &controlpb.DescribeCodeResponse{Node: clean(code.Node), Start: code.Start, SysConfig: code.SysConfig, NoEnvironment: clean(code.NoEnv)}
	for _, a := range code.Apps {
		res.Applications = append(res.Applications, &controlpb.CodeApplication{
			Name: clean(a.Name), Version: clean(a.Version), Modules: cleanAll(a.Modules), AppFile: a.File,
			Secrets: cleanAll(a.Secrets), Unwritable: cleanAll(a.Unwritable),
		})
	}
	return res, nil
}

func (s *systemsService) ReadModules(ctx context.Context, req *controlpb.ReadModulesRequest) (*controlpb.ReadModulesResponse, error) {
	tried := "read modules of " + clean(req.GetNode())
	ask, err := codeAsk(tried, req.GetNode(), req.GetModules(), req.GetTimeout())
	if err == nil && len(req.GetModules()) == 0 {
		err = badRequest(tried, "it names no module")
	}
	if err != nil {
		return nil, err
	}
	code, err := s.ask.ObjectCode(ctx, target.ModulesQuery{Ask: ask, Node: req.GetNode(), Modules: req.GetModules()})
	if err != nil {
		return nil, describe(tried, err)
	}
	res := &controlpb.ReadModulesResponse{}
	for _, m := range code {
		res.Modules = append(res.Modules, &controlpb.ObjectCode{Module: clean(m.Module), Code: m.Code})
	}
	return res, nil
}

func (s *systemsService) ReadStates(ctx context.Context, req *controlpb.ReadStatesRequest) (*controlpb.ReadStatesResponse, error) {
	tried := "read states of " + clean(req.GetNode())
	ask, err := codeAsk(tried, req.GetNode(), req.GetProcesses(), req.GetTimeout())
	if err == nil && len(req.GetProcesses()) == 0 {
		err = badRequest(tried, "it names no process")
	}
	if err != nil {
		return nil, err
	}
	states, err := s.ask.States(ctx, target.StatesQuery{Ask: ask, Node: req.GetNode(), Processes: req.GetProcesses()})
	if err != nil {
		return nil, describe(tried, err)
	}
	return &controlpb.ReadStatesResponse{States: states}, nil
}
