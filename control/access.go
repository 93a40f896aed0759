package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"iter"
	"os"
	"runtime/debug"
	"strings"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	controlpb "github.com/debughost/debughost/control/proto"
)

// methods are all methods of the API, whichever file defines them.
func methods() iter.Seq[protoreflect.MethodDescriptor] {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		pkg := controlpb.File_control_proto_control_proto.Package()
		protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(file protoreflect.FileDescriptor) bool {
			services := file.Services()
			for i := range services.Len() {
				methods := services.Get(i).Methods()
				for j := range methods.Len() {
					if !yield(methods.Get(j)) {
						return false
					}
				}
			}
			return true
		})
	}
}

// accessRules reads the rule of every method, by full gRPC name, from the
// definition. A method that states no role has no entry.
func accessRules() map[string]*controlpb.Access {
	rules := map[string]*controlpb.Access{}
	for m := range methods() {
		if a := accessOf(m); a.GetRole() != controlpb.Role_ROLE_UNSPECIFIED {
			rules[fullMethod(m)] = a
		}
	}
	return rules
}

func accessOf(m protoreflect.MethodDescriptor) *controlpb.Access {
	return proto.GetExtension(m.Options(), controlpb.E_Access).(*controlpb.Access)
}

func fullMethod(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// gate is what every call passes before its handler: who calls, may they, and
// what came of it.
type gate struct {
	rules map[string]*controlpb.Access
	owner int                          // the uid that holds every role; so does root
	who   func(context.Context) Caller // tells the caller of a call
	log   logrus.FieldLogger
	audit Auditor
}

func newGate(o Options, who func(context.Context) Caller) *gate {
	return &gate{rules: accessRules(), owner: os.Geteuid(), who: who, log: o.Log, audit: o.Audit}
}

// role is what the caller holds. The member runs with the rights of its user,
// so that this user holds every role, and nobody else of this machine holds
// any. Another member has checked its own callers.
func (g *gate) role(c Caller) controlpb.Role {
	if c.Member != "" || c.Known && (c.UID == 0 || int(c.UID) == g.owner) {
		return controlpb.Role_ROLE_ADMIN
	}
	return controlpb.Role_ROLE_UNSPECIFIED
}

// allow returns the rule of a method, or why the caller may not call it.
func (g *gate) allow(method string, c Caller) (*controlpb.Access, error) {
	rule := g.rules[method]
	if rule == nil && c.Member != "" && !strings.HasPrefix(method, ourMethods) {
		return nil, nil // what members say to each other beside this API
	}
	if rule == nil {
		return nil, &Error{
			Code: Denied, Tried: "call " + method,
			Cause: "call " + method + ": denied: the method states no role",
		}
	}
	if g.role(c) < rule.GetRole() {
		return nil, &Error{
			Code: Denied, Tried: "call " + method,
			Cause: fmt.Sprintf("call %s: denied to %s", shortMethod(method), c),
			Hint:  fmt.Sprintf("only the user that runs debughost (uid %d) and root may", g.owner),
		}
	}
	return rule, nil
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	c := g.who(ctx)
	rule, err := g.allow(info.FullMethod, c)
	if err != nil {
		return nil, err
	}
	if c.Call == "" && (rule.GetDestructive() || rule.GetAtOwner() || rule.GetAtArbiter()) {
		c.Call = newID()
	}
	ctx = context.WithValue(ctx, callerKey{}, c)
	if rule.GetDestructive() || rule.GetRole() > controlpb.Role_ROLE_VIEWER && forced(req) {
		record := startAudit(c, shortMethod(info.FullMethod), req)
		defer func() { g.finishAudit(record, res, err) }()
	}
	defer g.catch(info.FullMethod, &err)
	return next(ctx, req)
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	c := g.who(ss.Context())
	rule, err := g.allow(info.FullMethod, c)
	if err != nil {
		return err
	}
	if c.Call == "" && rule.GetDestructive() {
		c.Call = newID()
	}
	ss = callerStream{ss, context.WithValue(ss.Context(), callerKey{}, c)}
	switch method := shortMethod(info.FullMethod); {
	case rule.GetDestructive():
		acts := &auditedStream{ServerStream: ss, gate: g, caller: c, method: method}
		defer func() { acts.finish(err) }()
		ss = acts
	case rule.GetRole() > controlpb.Role_ROLE_VIEWER:
		ss = &notedStream{ss, g, c, method}
	}
	defer g.catch(info.FullMethod, &err)
	return next(srv, ss)
}

// notedStream writes down what is asked for when it is: the call may go on for
// days.
type notedStream struct {
	grpc.ServerStream
	g      *gate
	caller Caller
	method string
}

func (s *notedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.g.finishAudit(startAudit(s.caller, s.method, m), nil, nil)
	}
	return err
}

// callerStream is a stream whose context knows the Caller.
type callerStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s callerStream) Context() context.Context { return s.ctx }

// forced tells whether a request asks for something that is refused otherwise, or for
// secrets.
func forced(req any) bool {
	r, ok := req.(interface{ GetForce() bool })
	s, secret := req.(interface{ GetSecrets() bool })
	return ok && r.GetForce() || secret && s.GetSecrets()
}

// newID returns 16 hexadecimal digits that nobody else has.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// catch turns a panic of a handler into an error: it costs one call, not the
// member and every target with it.
func (g *gate) catch(method string, err *error) {
	if p := recover(); p != nil {
		g.log.WithFields(logrus.Fields{"method": method, "err": p, "stack": string(debug.Stack())}).
			Error("call panicked")
		*err = &Error{
			Code: Internal, Tried: "call " + shortMethod(method),
			Cause: "call " + shortMethod(method) + ": this is a bug in debughost",
			Hint:  "please report it with the stack in debughost's log",
		}
	}
}

// ourMethods begins the full names of the methods of this API.
const ourMethods = "/debughost.control."

// shortMethod cuts /debughost.control.v1.Targets/ListTargets to its last part.
func shortMethod(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }
