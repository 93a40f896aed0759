package control

import (
	"sync"

	"google.golang.org/grpc"

	controlpb "github.com/debughost/debughost/control/proto"
)

// auditedStream writes down what a caller does over a stream: the first request
// when it comes and once more, with what became of the call, when that ends; and
// each further one that acts as it comes. They have one AuditRecord.Call.
type auditedStream struct {
	grpc.ServerStream
	gate   *gate
	caller Caller
	method string

	mu    sync.Mutex
	begun bool
	first AuditRecord
}

func (s *auditedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.begun:
		s.begun = true
		s.first = startAudit(s.caller, s.method, m)
		s.first.Outcome = "begun"
		s.gate.writeAudit(s.first)
	case acts(m):
		s.gate.finishAudit(startAudit(s.caller, s.method, m), nil, nil)
	}
	return nil
}

// finish writes the record of the call.
func (s *auditedStream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.first = startAudit(s.caller, s.method, nil)
	}
	s.gate.finishAudit(s.first, nil, err)
}

// acts tells whether a request in the middle of a stream does something.
func acts(m any) bool {
	req, ok := m.(*controlpb.OpenShellRequest)
	return ok && req.GetLine() != nil
}
