package control

import (
	"context"
	"os"

	controlpb "github.com/debughost/debughost/control/proto"
)

type memberService struct {
	controlpb.UnimplementedMemberServer
	engine interface {
		TargetEngine
		MemberEngine
	}
	version  Version
	cluster  ClusterEngine  // may be nil
	registry RegistryEngine // may be nil
	children Supervisor     // may be nil
	forward  *forwarder
	meter    *meter
}

// ownStatus is what this member knows of itself alone.
func (s *memberService) ownStatus() *controlpb.GetStatusResponse {
	st := s.engine.Status()
	res := &controlpb.GetStatusResponse{
		Member:     clean(st.Member),
		Version:    s.version.Version,
		Node:       clean(st.Node),
		OsPid:      int64(os.Getpid()),
		Started:    timePB(st.Started),
		ConfigFile: clean(st.ConfigFile),
		DataDir:    clean(st.DataDir),
		Targets:    map[string]uint32{},
		Plugins:    pluginsPB(s.engine.Plugins()),
		Rss:        rss(),
		Warnings:   cleanAll(st.Warnings),
	}
	for _, t := range s.engine.Targets() {
		res.Targets[string(t.State)]++
	}
	if s.children != nil {
		res.Children = map[string]uint32{}
		for state, n := range s.children.CountChildren().ByState {
			if n > 0 {
				res.Children[clean(string(state))] = uint32(n)
			}
		}
	}
	for _, t := range st.Topologies {
		res.Topologies = append(res.Topologies, &controlpb.Topology{
			Name:     clean(t.Name),
			Strategy: clean(t.Strategy),
			State:    clean(t.State),
			Reason:   clean(t.Reason),
			Nodes:    uint32(t.Nodes),
			Updated:  timePB(t.Updated),
		})
	}
	return res
}

func (s *memberService) ListPlugins(context.Context, *controlpb.ListPluginsRequest) (*controlpb.ListPluginsResponse, error) {
	return &controlpb.ListPluginsResponse{Plugins: pluginsPB(s.engine.Plugins())}, nil
}

func pluginsPB(plugins []Plugin) []*controlpb.Plugin {
	var out []*controlpb.Plugin
	for _, p := range plugins {
		out = append(out, &controlpb.Plugin{
			Name:     clean(p.Name),
			Kind:     clean(p.Kind),
			State:    clean(p.State),
			Version:  clean(p.Version),
			Pid:      int64(p.OSPid),
			Reason:   clean(p.Reason),
			Restarts: uint32(p.Restarts),
			Since:    timePB(p.Since),
		})
	}
	return out
}

func (s *memberService) GetVersion(context.Context, *controlpb.GetVersionRequest) (*controlpb.GetVersionResponse, error) {
	return &controlpb.GetVersionResponse{
		Version: s.version.Version, Commit: s.version.Commit, GoVersion: s.version.Go,
	}, nil
}

func (s *memberService) ReloadConfig(ctx context.Context, _ *controlpb.ReloadConfigRequest) (*controlpb.ReloadConfigResponse, error) {
	if err := s.engine.Reload(ctx); err != nil {
		e := describe("reload config", err)
		if e.Code == Failed {
			e.Code = BadConfig
		}
		return nil, e
	}
	return &controlpb.ReloadConfigResponse{}, nil
}
