package wire_test

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
	"github.com/debughost/debughost/sdk/wire"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// liar answers with what it is given, whatever the contract says.
type liar struct {
	pluginpb.UnimplementedBaseServer
	pluginpb.UnimplementedDiscoveryServer
	pluginpb.UnimplementedPlacementServer
	pluginpb.UnimplementedSandboxServer

	describe *pluginpb.DescribeResponse
	watch    *pluginpb.WatchResponse // nil ends the stream
	choose   *pluginpb.ChooseResponse
	create   *pluginpb.SandboxCreateResponse
	inspect  *pluginpb.SandboxInspectResponse
}

func (l *liar) dial(t *testing.T) *wire.Client {
	return dial(t, func(s *grpc.Server) {
		pluginpb.RegisterBaseServer(s, l)
		pluginpb.RegisterDiscoveryServer(s, l)
		pluginpb.RegisterPlacementServer(s, l)
		pluginpb.RegisterSandboxServer(s, l)
	})
}

func (l *liar) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	return l.describe, nil
}

func (l *liar) Watch(_ *pluginpb.WatchRequest, s grpc.ServerStreamingServer[pluginpb.WatchResponse]) error {
	if l.watch == nil {
		return nil
	}
	return s.Send(l.watch)
}

func (l *liar) Choose(context.Context, *pluginpb.ChooseRequest) (*pluginpb.ChooseResponse, error) {
	return l.choose, nil
}

func (l *liar) Create(context.Context, *pluginpb.SandboxCreateRequest) (*pluginpb.SandboxCreateResponse, error) {
	return l.create, nil
}

func (l *liar) Inspect(context.Context, *pluginpb.SandboxInspectRequest) (*pluginpb.SandboxInspectResponse, error) {
	return l.inspect, nil
}

func (l *liar) Wait(context.Context, *pluginpb.SandboxWaitRequest) (*pluginpb.SandboxWaitResponse, error) {
	return &pluginpb.SandboxWaitResponse{}, nil
}

func garbage(t *testing.T, want string, err error) {
	t.Helper()
	require.ErrorIs(t, err, sdk.ErrGarbage)
	require.ErrorContains(t, err, want)
	require.Contains(t, sdk.Hint(err), "defect of the plugin")
}

func TestGarbageDescriptions(t *testing.T) {
	good := func() *pluginpb.DescribeResponse {
		return &pluginpb.DescribeResponse{Name: "discovery-x", Version: "1", Kind: pluginpb.Kind_KIND_DISCOVERY, ConfigSchema: []byte("{}")}
	}
	l := &liar{describe: good()}
	c := l.dial(t)
	_, err := c.Describe(t.Context())
	require.NoError(t, err)
	for want, change := range map[string]func(*pluginpb.DescribeResponse){
		"unknown kind 9":             func(d *pluginpb.DescribeResponse) { d.Kind = 9 },
		"unknown kind 0":             func(d *pluginpb.DescribeResponse) { d.Kind = 0 },
		`name "" is not`:             func(d *pluginpb.DescribeResponse) { d.Name = "" },
		`"../../discovery-x" is not`: func(d *pluginpb.DescribeResponse) { d.Name = "../../discovery-x" },
		"64 bytes at most":           func(d *pluginpb.DescribeResponse) { d.Name = "discovery-" + strings.Repeat("x", 64) },
		"begin with its kind":        func(d *pluginpb.DescribeResponse) { d.Name = "placement-x" },
		"has no version":             func(d *pluginpb.DescribeResponse) { d.Version = "" },
		"too long":                   func(d *pluginpb.DescribeResponse) { d.Version = strings.Repeat("1", 129) },
		"no JSON object":             func(d *pluginpb.DescribeResponse) { d.ConfigSchema = []byte("[]") },
	} {
		l.describe = good()
		change(l.describe)
		_, err := c.Describe(t.Context())
		garbage(t, want, err)
	}
}

func TestGarbageLists(t *testing.T) {
	node := func(n *pluginpb.Node) *pluginpb.WatchResponse {
		return &pluginpb.WatchResponse{List: &pluginpb.NodeList{Nodes: []*pluginpb.Node{{Name: "a@b", Role: 1}, n}}}
	}
	l := &liar{}
	c := l.dial(t)
	for want, answer := range map[string]*pluginpb.WatchResponse{
		"neither a list nor a failure": {},
		"unknown role 0":               node(&pluginpb.Node{Name: "c@d"}),
		"unknown role 7":               node(&pluginpb.Node{Name: "c@d", Role: 7}),
		"want name@host":               node(&pluginpb.Node{Name: "c", Role: 1}),
		"listed twice":                 node(&pluginpb.Node{Name: "a@b", Role: 1}),
		"the name is empty":            node(&pluginpb.Node{Role: 1}),
	} {
		l.watch = answer
		n := 0
		err := c.Discovery().Watch(t.Context(), func(a sdk.Answer) error {
			n++
			require.Nil(t, a.Nodes)
			garbage(t, want, a.Err)
			return nil
		})
		require.ErrorIs(t, err, sdk.ErrGarbage)
		require.ErrorContains(t, err, "the plugin ended the stream")
		require.Equal(t, 1, n)
	}
	// Long words of a plugin are cut.
	l.watch = &pluginpb.WatchResponse{Failure: &pluginpb.Failure{Message: strings.Repeat("é", 1<<20), Hint: strings.Repeat("x", 1<<20)}}
	_ = c.Discovery().Watch(t.Context(), func(a sdk.Answer) error {
		require.Less(t, len(a.Err.Error()), 9<<10)
		require.Less(t, len(sdk.Hint(a.Err)), 9<<10)
		return nil
	})
}

func TestGarbageChoices(t *testing.T) {
	l := &liar{}
	c := l.dial(t)
	for want, answer := range map[string]*pluginpb.ChooseResponse{
		"neither chose nor refused":           {},
		`"c", which cannot take the child`:    {Outcome: &pluginpb.ChooseResponse_Member{Member: "c"}},
		"it is draining":                      {Outcome: &pluginpb.ChooseResponse_Member{Member: "e"}},
		`"nobody", which is no member`:        {Outcome: &pluginpb.ChooseResponse_Member{Member: "nobody"}},
		`"", which is no member`:              {Outcome: &pluginpb.ChooseResponse_Member{}},
		"unknown code 5":                      {Outcome: &pluginpb.ChooseResponse_Refusal{Refusal: &pluginpb.Refusal{Code: 5}}},
		"though there is a quorum":            {Outcome: &pluginpb.ChooseResponse_Refusal{Refusal: &pluginpb.Refusal{Code: 2, Stop: true}}},
		`scores "x"`:                          {Scores: []*pluginpb.Score{{Member: "x"}}},
		`"a" twice`:                           {Scores: []*pluginpb.Score{{Member: "a"}, {Member: "a"}}},
		"6 scores for 5 members":              {Scores: make([]*pluginpb.Score, 6)},
		"not a finite number":                 {Scores: []*pluginpb.Score{{Member: "a", Total: math.NaN()}}},
		`score of "b" is not a finite number`: {Scores: []*pluginpb.Score{{Member: "b", Total: math.Inf(-1)}}},
		"33 parts, want at most 32":           {Scores: []*pluginpb.Score{{Member: "a", Parts: parts(33)}}},
		`has the part "memory"`:               {Scores: []*pluginpb.Score{{Member: "a", Parts: map[string]float64{"memory": math.Inf(1)}}}},
		"a name of 64 bytes at most":          {Scores: []*pluginpb.Score{{Member: "a", Parts: map[string]float64{strings.Repeat("x", 65): 1}}}},
	} {
		l.choose = answer
		_, err := c.Placement().Choose(t.Context(), request)
		garbage(t, want, err)
	}
	l.choose = &pluginpb.ChooseResponse{Outcome: &pluginpb.ChooseResponse_Member{Member: "a"}, Scores: []*pluginpb.Score{{Member: "c", Excluded: strings.Repeat("x", 1<<20)}}}
	d, err := c.Placement().Choose(t.Context(), request)
	require.NoError(t, err)
	require.Less(t, len(d.Scores[0].Excluded), 9<<10)
}

func parts(n int) map[string]float64 {
	m := map[string]float64{}
	for i := range n {
		m[strconv.Itoa(i)] = 1
	}
	return m
}

func TestGarbageSandboxes(t *testing.T) {
	many := make(map[string]string)
	for i := range 65 {
		many[strconv.Itoa(i)] = "held"
	}
	l := &liar{create: &pluginpb.SandboxCreateResponse{}}
	c := l.dial(t)
	s := c.Sandbox(sdk.Description{})
	_, err := s.Create(t.Context(), spec)
	garbage(t, "handle of \"\"", err)
	_, err = s.Wait(t.Context(), "box")
	garbage(t, "does not say how", err)
	for want, status := range map[string]*pluginpb.SandboxStatus{
		"unknown state 0":       {Id: "box"},
		"unknown state 9":       {Id: "box", State: 9},
		`answers for "other"`:   {Id: "other", State: 2},
		"its exit does not fit": {Id: "box", State: 4},
		"it says of 65 limits":  {Id: "box", State: 2, Enforced: many},
	} {
		l.inspect = &pluginpb.SandboxInspectResponse{Status: status}
		_, err := s.Inspect(t.Context(), "box")
		garbage(t, want, err)
	}
}

// A plugin from the future may send what this host's enums lack, and the other
// way round; the plugin's side is checked here.
func TestUnknownEnumsOfTheHost(t *testing.T) {
	for want, in := range map[string]*pluginpb.ChooseRequest{
		"unknown restart type": {Child: &pluginpb.ChildSpec{Restart: 9, Handoff: 1}},
		"unknown handoff":      {Child: &pluginpb.ChildSpec{Restart: 1}},
		"unknown state":        {Child: &pluginpb.ChildSpec{Restart: 1, Handoff: 1}, Members: []*pluginpb.Member{{Name: "m"}}},
	} {
		_, err := rawPlacement(t).Choose(t.Context(), in)
		require.ErrorContains(t, err, want)
	}
}
