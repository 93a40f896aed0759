package control

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// Every method of the API must say who may call it, what it is in HTTP, and what
// a destructive one does must reach the audit log: of a shell, each request, and of
// an upload that it was one.
func TestEveryMethodHasARule(t *testing.T) {
	rules := accessRules()
	n := 0
	for m := range methods() {
		n++
		a := rules[fullMethod(m)]
		assert.NotNil(t, a, "%s has no role", m.FullName())
		if a.GetDestructive() {
			streams := m.IsStreamingServer() || m.IsStreamingClient()
			assert.Equal(t, m.Name() == "OpenShell" || m.Name() == "UploadBlob", streams, "%s is destructive and streams", m.FullName())
			assert.Greater(t, a.GetRole(), controlpb.Role_ROLE_VIEWER, "%s is destructive and for viewers", m.FullName())
		}
		assert.NotNil(t, proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule), "%s has no path", m.FullName())
		if a.GetAtArbiter() || a.GetAtRunner() {
			assert.NotEmpty(t, childOf(aboutChild(t, m)), "%s is done at one member and names no child", m.FullName())
			assert.True(t, a.GetDestructive() && !m.IsStreamingServer(), "%s is done at one member, and does not act or streams", m.FullName())
		}
		if a.GetFanOut() {
			nodes, errors := m.Input().Fields().ByName("nodes"), m.Output().Fields().ByName("errors")
			assert.True(t, nodes != nil && nodes.IsList() && nodes.Kind() == protoreflect.StringKind, "%s fans out and names no nodes", m.FullName())
			assert.True(t, errors != nil && errors.IsList() && errors.Message().Name() == "NodeError", "%s fans out and has no errors", m.FullName())
			assert.False(t, m.IsStreamingServer() || a.GetDestructive(), "%s fans out, and streams or acts", m.FullName())
		}
	}
	assert.Equal(t, 70, n)
}

// aboutChild is a request of a method that names a child wherever it may.
func aboutChild(t *testing.T, m protoreflect.MethodDescriptor) proto.Message {
	t.Helper()
	typ, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	require.NoError(t, err)
	req := typ.New()
	if fd := req.Descriptor().Fields().ByName("spec"); fd != nil {
		spec := req.Mutable(fd).Message()
		spec.Set(spec.Descriptor().Fields().ByName("id"), protoreflect.ValueOfString("web"))
	} else if fd := req.Descriptor().Fields().ByName("id"); fd != nil {
		req.Set(fd, protoreflect.ValueOfString("web"))
	}
	return req.Interface()
}

func TestGate(t *testing.T) {
	me := Caller{UID: uint32(os.Geteuid()), Known: true}
	g := newGate(Options{}, localCaller)
	const list = "/debughost.control.v1.Targets/ListTargets"
	for _, c := range []struct {
		name   string
		method string
		caller Caller
		ok     bool
	}{
		{"owner", list, me, true},
		{"root", list, Caller{UID: 0, Known: true}, true},
		{"another user", list, Caller{UID: 54321, Known: true}, false},
		{"unknown caller", list, Caller{}, false},
		{"unknown caller with uid 0", list, Caller{UID: 0}, false},
		{"unknown method", "/debughost.control.v1.Targets/Nuke", me, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := g.allow(c.method, c.caller)
			if c.ok {
				assert.NoError(t, err)
				return
			}
			requireCode(t, err, Denied)
		})
	}
}

// A caller without a role reaches no handler, unary or stream.
func TestGateStopsStrangers(t *testing.T) {
	g := newGate(Options{}, localCaller)
	_, err := g.unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/debughost.control.v1.Processes/KillProcess"},
		func(context.Context, any) (any, error) { t.Error("called"); return nil, nil })
	e := requireCode(t, err, Denied)
	assert.Contains(t, e.Cause, "KillProcess: denied to an unknown caller")
	assert.Contains(t, e.Hint, "root may")
	err = g.stream(nil, fakeStream{}, &grpc.StreamServerInfo{FullMethod: "/debughost.control.v1.Events/WatchEvents"},
		func(any, grpc.ServerStream) error { t.Error("called"); return nil })
	requireCode(t, err, Denied)
}

type fakeStream struct{ grpc.ServerStream }

func (fakeStream) Context() context.Context { return context.Background() }

func TestAuditLog(t *testing.T) {
	dir := socketDir(t)
	file := &AuditFile{Path: filepath.Join(dir, "audit.log")}
	e := &fakeEngine{kill: func(_ context.Context, q target.KillQuery) (target.KillResult, error) {
		if q.Process == "gone" {
			return target.KillResult{}, target.ErrNoProcess
		}
		return target.KillResult{Node: q.Node, Pid: "<0.9.0>", Reason: q.Reason}, nil
	}}
	s := serve(t, e, Options{Audit: file})
	c := s.dial(t)
	ctx := testContext(t)

	_, err := c.Processes.KillProcess(ctx, &controlpb.KillProcessRequest{Node: "a@b", Process: "<0.9.0>", Reason: "kill", Force: true})
	require.NoError(t, err)
	_, err = c.Processes.KillProcess(ctx, &controlpb.KillProcessRequest{Node: "a@b", Process: "gone"})
	requireCode(t, err, NoProcess)
	_, err = c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{}) // is not audited
	require.NoError(t, err)

	b, err := os.ReadFile(file.Path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	require.Len(t, lines, 2)
	var r AuditRecord
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &r))
	assert.Equal(t, "KillProcess", r.Method)
	assert.Equal(t, "done", r.Outcome)
	assert.Equal(t, uint32(os.Geteuid()), *r.UID)
	assert.JSONEq(t, `{"node":"a@b","process":"<0.9.0>","reason":"kill","force":true}`, string(r.Args))
	assert.JSONEq(t, `{"node":"a@b","pid":"<0.9.0>","reason":"kill"}`, string(r.Result))
	assert.Contains(t, lines[0], "<0.9.0>")
	assert.False(t, r.Time.IsZero())
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &r))
	assert.Equal(t, "noproc", r.Outcome)
	assert.Contains(t, r.Error, "noproc")

	fi, err := os.Stat(file.Path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	assert.Equal(t, 2, len(s.log.AllEntries()))
}

// A disk that takes no record does not stop the operator, and is told.
func TestAuditLogThatCannotBeWritten(t *testing.T) {
	e := &fakeEngine{kill: func(context.Context, target.KillQuery) (target.KillResult, error) {
		return target.KillResult{}, nil
	}}
	s := serve(t, e, Options{Audit: &AuditFile{Path: filepath.Join(socketDir(t), "no", "audit.log")}})
	_, err := s.dial(t).Processes.KillProcess(testContext(t), &controlpb.KillProcessRequest{Node: "a@b", Process: "x"})
	require.NoError(t, err)
	assert.Equal(t, "audit record not written", s.log.LastEntry().Message)
}

func TestAuditFileRotates(t *testing.T) {
	a := &AuditFile{Path: filepath.Join(t.TempDir(), "audit.log"), MaxBytes: 1}
	for _, m := range []string{"one", "two", "three"} {
		require.NoError(t, a.Record(AuditRecord{Method: m}))
	}
	now, err := os.ReadFile(a.Path)
	require.NoError(t, err)
	assert.Contains(t, string(now), "three")
	before, err := os.ReadFile(a.Path + ".1")
	require.NoError(t, err)
	assert.Contains(t, string(before), "two")
	require.NoError(t, os.Remove(a.Path+".1"))
	require.NoError(t, os.MkdirAll(filepath.Join(a.Path+".1", "in the way"), 0o700))
	assert.ErrorContains(t, a.Record(AuditRecord{}), "rotate audit log")
}

// Fields marked as secret never reach the audit log, however deep they are.
func TestSecretsAreDropped(t *testing.T) {
	secret := &descriptorpb.FieldOptions{}
	proto.SetExtension(secret, controlpb.E_Secret, true)
	field := func(name string, n int32, typ descriptorpb.FieldDescriptorProto_Type, o *descriptorpb.FieldOptions) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &n, Type: &typ, Options: o,
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if typ == descriptorpb.FieldDescriptorProto_TYPE_MESSAGE {
			f.TypeName = proto.String(".M")
		}
		return f
	}
	list := field("list", 4, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, nil)
	list.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("secret_test.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{
			field("shown", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, nil),
			field("hidden", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING, secret),
			field("inner", 3, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, nil),
			list,
		}}},
	}, nil)
	require.NoError(t, err)
	m := dynamicpb.NewMessage(file.Messages().Get(0))
	const in = `{"shown":"a","hidden":"b","inner":{"shown":"c","hidden":"d"},"list":[{"hidden":"e"},{"shown":"f"}]}`
	require.NoError(t, protojson.Unmarshal([]byte(in), m))
	assert.JSONEq(t, `{"shown":"a","inner":{"shown":"c"},"list":[{},{"shown":"f"}]}`, string(auditArgs(m)))
	back, err := protojson.Marshal(m)
	require.NoError(t, err)
	assert.JSONEq(t, in, string(back), "the request itself must stay as it is")
}

// A handler that panics costs one call.
func TestPanicIsAnError(t *testing.T) {
	e := &fakeEngine{
		inspect: func(context.Context, target.InspectQuery) (target.ProcessDetail, error) { panic("boom") },
		processes: func(context.Context, target.ProcessQuery, target.Sink) error {
			panic(errors.New("bang"))
		},
	}
	s := serve(t, e, Options{})
	c := s.dial(t)
	ctx := testContext(t)
	_, err := c.Processes.InspectProcess(ctx, &controlpb.InspectProcessRequest{Node: "a@b", Process: "x"})
	requireCode(t, err, Internal)
	assert.Contains(t, s.log.LastEntry().Data["stack"], "TestPanicIsAnError")
	stream, err := c.Processes.ListProcesses(ctx, &controlpb.ListProcessesRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireCode(t, err, Internal)
	_, err = c.Member.GetStatus(ctx, &controlpb.GetStatusRequest{})
	require.NoError(t, err)
}

// The list of types that can be asked for must be that of package events.
func TestEventTypesAreComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../host/events/event.go", nil, 0)
	require.NoError(t, err)
	var want []string
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Type" {
				s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				want = append(want, s)
			}
		}
		return true
	})
	require.NotEmpty(t, want)
	assert.ElementsMatch(t, want, EventTypes())
}
