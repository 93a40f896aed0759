package control

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

func (f fakeQuestions) System(_ context.Context, q target.SystemQuery, out target.Answers[target.System]) {
	for _, n := range q.Nodes {
		s := target.System{OTPRelease: "27", Uptime: time.Minute, Limits: []target.Limit{{Name: "atom", Used: 1, Limit: 2}},
			Memory: []target.MemoryUse{{Name: "total", Value: 5}}, Allocators: []target.Allocator{{Name: "a", Blocks: 1, Carriers: 2}},
			Nodes: []target.Neighbour{{Name: f.m.name, Hidden: true, Queue: 3}}, Window: q.Window}
		if q.Window > 0 {
			s.Activity, s.Busy, s.BusyTotal = []target.Rate{{Name: "reductions", Value: 7}}, []float64{0.5}, 0.5
		}
		out.Answer(n, s)
	}
}

func (f fakeQuestions) Apps(_ context.Context, q target.AppsQuery, out target.Answers[[]target.App]) {
	for _, n := range q.Nodes {
		out.Answer(n, []target.App{{Name: "kernel", Version: "1", State: "running", StartType: "permanent", Processes: 3, Memory: 4, Description: f.m.name}})
	}
}

func (f fakeQuestions) Env(_ context.Context, q target.EnvQuery) (target.Env, error) {
	if q.App == "none" {
		return target.Env{}, target.ErrNoApp
	}
	syntax := map[bool]string{q.ElixirGuess: "auto", q.Elixir: "elixir"}[true]
	return target.Env{Node: q.Node, App: q.App, Total: 9, Entries: []target.KeyValue{{Key: "k", Value: f.m.name + syntax, Truncated: true}}}, nil
}

func (f fakeQuestions) Tree(_ context.Context, q target.TreeQuery) (*target.TreeNode, error) {
	switch q.App {
	case "none":
		return nil, target.ErrNoApp
	case "huge":
		app := &target.TreeNode{Name: f.m.name, Total: 100}
		for range 100 {
			app.Children = append(app.Children, &target.TreeNode{Name: strings.Repeat("x", 1<<17)})
		}
		return app, nil
	}
	return &target.TreeNode{Name: f.m.name, Type: "application", Total: 1, Children: []*target.TreeNode{
		{Name: "sup\xff", Pid: "<0.1.0>", Total: uint64(q.Children), Strategy: "one_for_one", Recent: 2, Restarts: 1, Children: []*target.TreeNode{{Name: "w"}}},
		{Name: "loose", Unsupervised: true, Parent: "<0.2.0>"},
	}}, nil
}

func (f fakeQuestions) Code(_ context.Context, q target.CodeQuery) (target.Code, error) {
	if len(q.Apps) > 0 && q.Apps[0] == "none" {
		return target.Code{}, target.ErrNoApp
	}
	app := target.CodeApp{Name: "shop", Version: f.m.name, Modules: []string{"a"}, File: []byte("app"), Secrets: []string{"key"}, Unwritable: []string{"pid"}}
	return target.Code{Node: q.Node, Apps: []target.CodeApp{app}, Start: []byte("[]."), SysConfig: []byte(map[bool]string{true: "hush"}[q.Secrets]), NoEnv: "none"}, nil
}

func (f fakeQuestions) ObjectCode(_ context.Context, q target.ModulesQuery) ([]target.ObjectCode, error) {
	return []target.ObjectCode{{Module: q.Modules[0], Code: []byte(f.m.name)}}, nil
}

func (f fakeQuestions) States(_ context.Context, q target.StatesQuery) ([]byte, error) {
	return []byte(f.m.name + q.Processes[0]), nil
}

// Code is taken by the member that has the node, and no secret goes to a log.
func TestCode(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("b", "n@h")
	client, ctx := c.members["a"].dial(t).Systems, testContext(t)
	code, err := client.DescribeCode(ctx, &controlpb.DescribeCodeRequest{Node: "n@h", Secrets: true})
	require.NoError(t, err)
	assert.Equal(t, "hush", string(code.GetSysConfig()))
	assert.Equal(t, "none", code.GetNoEnvironment())
	app := code.GetApplications()[0]
	assert.Equal(t, "shop b a app key pid", strings.Join([]string{app.GetName(), app.GetVersion(), app.GetModules()[0], string(app.GetAppFile()), app.GetSecrets()[0], app.GetUnwritable()[0]}, " "))
	modules, err := client.ReadModules(ctx, &controlpb.ReadModulesRequest{Node: "n@h", Modules: []string{"x", "y"}})
	require.NoError(t, err)
	assert.Equal(t, "b", string(modules.GetModules()[0].GetCode()))
	states, err := client.ReadStates(ctx, &controlpb.ReadStatesRequest{Node: "n@h", Processes: []string{"hush"}})
	require.NoError(t, err)
	assert.Equal(t, "bhush", string(states.GetStates()))
	for _, r := range c.members["b"].audit.all() {
		assert.NotContains(t, string(r.Result), "hush")
	}
	_, err = client.DescribeCode(ctx, &controlpb.DescribeCodeRequest{Node: "n@h", Applications: []string{"none"}})
	requireCode(t, err, UnknownApp)
	long := durationpb.New(2 * MaxTimeout)
	for _, req := range []*controlpb.DescribeCodeRequest{{}, {Node: "n@h", Timeout: long}, {Node: "n@h", Applications: []string{""}}, {Node: "n@h", Applications: []string{strings.Repeat("x", 2000)}}} {
		_, err := client.DescribeCode(ctx, req)
		requireCode(t, err, BadRequest)
	}
	for _, req := range []*controlpb.ReadModulesRequest{{}, {Node: "n@h"}, {Node: "n@h", Modules: make([]string, maxCodeModules+1)}} {
		_, err := client.ReadModules(ctx, req)
		requireCode(t, err, BadRequest)
	}
	for _, req := range []*controlpb.ReadStatesRequest{{}, {Node: "n@h"}, {Node: "n@h", Processes: []string{""}}} {
		_, err := client.ReadStates(ctx, req)
		requireCode(t, err, BadRequest)
	}
}

// Nodes of all members are asked, and a tree or an environment is read by the
// member that has the node.
func TestSystems(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.own("a", "n2@h")
	c.own("b", "n1@h")
	client := c.members["a"].dial(t).Systems
	ctx := testContext(t)

	res, err := client.GetSystems(ctx, &controlpb.GetSystemsRequest{Window: durationpb.New(time.Second)})
	require.NoError(t, err)
	require.Len(t, res.GetSystems(), 2)
	s := res.GetSystems()[0]
	assert.Equal(t, "n1@h", s.GetNode())
	assert.Equal(t, "b", s.GetNodes()[0].GetName())
	assert.Equal(t, 0.5, s.GetActivity().GetTotal())
	assert.Equal(t, 7.0, s.GetActivity().GetRates()[0].GetValue())
	res, err = client.GetSystems(ctx, &controlpb.GetSystemsRequest{Nodes: []string{"n1@h"}})
	require.NoError(t, err)
	assert.Nil(t, res.GetSystems()[0].GetActivity())

	apps, err := client.ListApplications(ctx, &controlpb.ListApplicationsRequest{})
	require.NoError(t, err)
	require.Len(t, apps.GetApplications(), 2)
	assert.Equal(t, "a", apps.GetApplications()[1].GetDescription())

	env, err := client.GetEnvironment(ctx, &controlpb.GetEnvironmentRequest{Node: "n1@h", Application: "x", Syntax: "elixir"})
	require.NoError(t, err)
	assert.Equal(t, "belixir", env.GetEntries()[0].GetValue())
	assert.EqualValues(t, 9, env.GetTotal())
	_, err = client.GetEnvironment(ctx, &controlpb.GetEnvironmentRequest{Node: "n1@h", Application: "none"})
	e := requireCode(t, err, UnknownApp)
	assert.Contains(t, e.Cause, "read the environment of none on n1@h")

	tree, err := client.GetTree(ctx, &controlpb.GetTreeRequest{Node: "n1@h", Children: 5})
	require.NoError(t, err)
	assert.Equal(t, "b", tree.GetTree().GetName())
	assert.Zero(t, tree.GetTree().GetCut())
	sup := tree.GetTree().GetChildren()[0]
	assert.Equal(t, "sup\uFFFD", sup.GetName())
	assert.EqualValues(t, 4, sup.GetCut())
	assert.True(t, tree.GetTree().GetChildren()[1].GetUnsupervised())
	_, err = client.GetTree(ctx, &controlpb.GetTreeRequest{Node: "n2@h", Application: "none"})
	requireCode(t, err, UnknownApp)
	tree, err = client.GetTree(ctx, &controlpb.GetTreeRequest{Node: "n1@h", Application: "huge"})
	require.NoError(t, err)
	assert.NotZero(t, tree.GetTree().GetCut())
	assert.EqualValues(t, 100, int(tree.GetTree().GetCut())+len(tree.GetTree().GetChildren()))
}

func TestSystemsBadRequests(t *testing.T) {
	c := newTestCluster(t, "a")
	c.own("a", "n@h")
	client := c.members["a"].dial(t).Systems
	ctx := testContext(t)
	long := durationpb.New(2 * MaxTimeout)
	for _, req := range []*controlpb.GetSystemsRequest{{Window: long}, {Timeout: long}, {Window: durationpb.New(-1)}} {
		_, err := client.GetSystems(ctx, req)
		requireCode(t, err, BadRequest)
	}
	_, err := client.ListApplications(ctx, &controlpb.ListApplicationsRequest{Timeout: long})
	requireCode(t, err, BadRequest)
	for _, req := range []*controlpb.GetEnvironmentRequest{
		{Node: "n@h"}, {Node: "n@h", Application: strings.Repeat("x", 2000)}, {Node: "n@h", Application: "x", Syntax: "lisp"},
		{Node: "n@h", Application: "x", MaxBytes: 1 << 30}, {Node: "n@h", Application: "x", Timeout: long}, {Application: "x"},
	} {
		_, err := client.GetEnvironment(ctx, req)
		requireCode(t, err, BadRequest)
	}
	for _, req := range []*controlpb.GetTreeRequest{
		{}, {Node: "n@h", Depth: 1 << 20}, {Node: "n@h", Children: 1 << 20}, {Node: "n@h", Timeout: long},
		{Node: "n@h", Application: strings.Repeat("x", 2000)},
	} {
		_, err := client.GetTree(ctx, req)
		requireCode(t, err, BadRequest)
	}
}
