package control

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// specOf reads a spec of the wire. What makes no sense to the supervisor it says
// itself; here is only what would not fit.
func specOf(tried string, p *controlpb.ChildSpec) (supervisor.Spec, error) {
	s := supervisor.Spec{
		ID: p.GetId(), Strategy: p.GetStrategy(), Config: json.RawMessage(p.GetConfig()), Restart: sdk.Restart(p.GetRestart()),
		MaxRestarts: int(p.GetMaxRestarts()), Placement: p.GetPlacement(), Constraints: maps.Clone(p.GetConstraints()),
		Near: p.GetNear(), Apart: slices.Clone(p.GetApart()), Handoff: sdk.Handoff(p.GetHandoff()), Bundle: p.GetBundle(), Seed: p.GetSeed(),
	}
	if n := len(p.GetVersions()); n > 0 {
		s.Versions = []supervisor.Version{{Bundle: p.GetBundle(), Note: p.GetVersions()[n-1].GetNote()}}
	}
	if l := p.GetLimits(); l != nil {
		if l.GetProcesses() > math.MaxInt32 || l.GetOpenFiles() > math.MaxInt32 {
			return s, badRequest(tried, "a limit is above %d", math.MaxInt32)
		}
		s.Limits = sdk.SandboxLimits{
			Memory: l.GetMemory(), CPUs: l.GetCpus(), Processes: int(l.GetProcesses()), OpenFiles: int(l.GetOpenFiles()), Disk: l.GetDisk(),
		}
	}
	var err error
	if s.MaxRestartsIn, err = duration(tried, "max_restarts_in", p.GetMaxRestartsIn(), MaxTTL); err != nil {
		return s, err
	}
	if s.ShutdownTimeout, err = duration(tried, "shutdown_timeout", p.GetShutdownTimeout(), MaxTTL); err != nil {
		return s, err
	}
	if c := bytes.TrimSpace(s.Config); len(c) > 0 && (c[0] != '{' || !json.Valid(c)) {
		return s, badRequest(tried, "config is no JSON object")
	}
	return s, nil
}

// specPB has of the environment only the names.
func specPB(s *supervisor.Spec) *controlpb.ChildSpec {
	p := &controlpb.ChildSpec{
		Id: clean(s.ID), Strategy: clean(s.Strategy), Config: clean(string(hideEnv(s.Config))), Restart: clean(string(s.Restart)),
		MaxRestarts: int32(min(s.MaxRestarts, math.MaxInt32)), MaxRestartsIn: durationpb.New(s.MaxRestartsIn),
		ShutdownTimeout: durationpb.New(s.ShutdownTimeout), Placement: clean(s.Placement), Constraints: map[string]string{},
		Near: clean(s.Near), Apart: cleanAll(s.Apart), Handoff: clean(string(s.Handoff)), Bundle: clean(s.Bundle), Seed: clean(s.Seed),
	}
	for _, v := range s.Versions {
		p.Versions = append(p.Versions, &controlpb.ChildVersion{Bundle: clean(v.Bundle), At: timePB(v.At), Note: clean(v.Note)})
	}
	for k, v := range s.Constraints {
		p.Constraints[clean(k)] = clean(v)
	}
	if l := s.Limits; l != (sdk.SandboxLimits{}) {
		p.Limits = &controlpb.ChildLimits{
			Memory: l.Memory, Cpus: l.CPUs, Processes: uint32(l.Processes), OpenFiles: uint32(l.OpenFiles), Disk: l.Disk,
		}
	}
	return p
}

// hidden stands for a value that is not told.
const hidden = "…"

// hideEnv returns a sandbox's config with the values of its key env hidden, which
// may be secrets: of a table its values, of a list what is behind each =. A config
// that is no JSON object is hidden as a whole.
func hideEnv(config []byte) []byte {
	if len(config) == 0 {
		return nil
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(config, &keys) != nil {
		return []byte(`"` + hidden + `"`)
	}
	env, ok := keys["env"]
	if !ok {
		return slices.Clone(config)
	}
	keys["env"] = hideValues(env)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // commands have <, > and &
	if enc.Encode(keys) != nil {
		return []byte(`"` + hidden + `"`)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func hideValues(env json.RawMessage) json.RawMessage {
	var table map[string]json.RawMessage
	var list []string
	var out any = hidden
	switch {
	case json.Unmarshal(env, &table) == nil:
		names := map[string]string{}
		for name := range table {
			names[name] = hidden
		}
		out = names
	case json.Unmarshal(env, &list) == nil:
		for i, pair := range list {
			name, _, _ := strings.Cut(pair, "=")
			list[i] = name + "=" + hidden
		}
		out = list
	}
	b, err := json.Marshal(out)
	if err != nil {
		return json.RawMessage(`"` + hidden + `"`)
	}
	return b
}

func childPB(c *supervisor.Child) *controlpb.Child {
	return &controlpb.Child{
		Id: clean(c.Spec.ID), Strategy: clean(c.Spec.Strategy), Member: clean(c.Member), State: clean(string(c.State)), Reason: clean(c.Reason),
		Since: timePB(c.Since), Restarts: uint32(max(c.Restarts, 0)), Epoch: c.Epoch, Started: timePB(c.Started),
		OsPid: int64(c.OSPid), Node: clean(c.Node), Memory: c.Memory, Placement: clean(c.Spec.Placement), Restart: clean(string(c.Spec.Restart)), Bundle: clean(c.Spec.Bundle),
	}
}

func historyPB(history []supervisor.Entry) []*controlpb.ChildEntry {
	var out []*controlpb.ChildEntry
	for _, e := range history {
		p := &controlpb.ChildEntry{
			Time: timePB(e.Time), Member: clean(e.Member), Epoch: e.Epoch, What: clean(e.What), Reason: clean(e.Reason),
		}
		if x := e.Exit; x != nil {
			p.Exit = &controlpb.ChildExit{
				Code: int32(x.Code), Signal: int32(x.Signal), OutOfMemory: x.OutOfMemory, Reason: clean(x.Reason), At: timePB(x.At),
			}
		}
		out = append(out, p)
	}
	return out
}

func enforcedPB(enforced map[string]string) map[string]string {
	out := map[string]string{}
	for limit, by := range enforced {
		out[clean(limit)] = clean(by)
	}
	return out
}
