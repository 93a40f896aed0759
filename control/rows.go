package control

import (
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// chunkRows is how many rows go into one message of the stream: some 100 kB,
// so that a small answer on the same connection does not wait behind it.
const chunkRows = 500

// rowSink sends what the engine finds, in chunks. A send blocks while the
// caller reads slower than the targets answer, and so slows the engine down.
type rowSink struct {
	send   func(*controlpb.ListProcessesResponse) error
	rows   uint64
	failed map[string]bool

	// One chunk serves the whole answer: a message is encoded when send
	// returns, so that its parts can be written over.
	slab  []controlpb.Process
	chunk controlpb.ProcessRows
}

var _ target.Sink = (*rowSink)(nil)

func (s *rowSink) Rows(rows []target.Process) error {
	for len(rows) > 0 {
		n := min(len(rows), chunkRows)
		if err := s.sendChunk(rows[:n]); err != nil {
			return err
		}
		s.rows += uint64(n)
		rows = rows[n:]
	}
	return nil
}

func (s *rowSink) sendChunk(rows []target.Process) error {
	if len(s.slab) < len(rows) {
		s.slab = make([]controlpb.Process, len(rows))
		s.chunk.Processes = make([]*controlpb.Process, len(rows))
		for i := range s.slab {
			s.chunk.Processes[i] = &s.slab[i]
		}
	}
	all := s.chunk.Processes
	defer func() { s.chunk.Processes = all }()
	s.chunk.Processes = all[:len(rows)]
	for i := range rows {
		fillProcess(&s.slab[i], &rows[i])
	}
	return s.send(&controlpb.ListProcessesResponse{Part: &controlpb.ListProcessesResponse_Rows{Rows: &s.chunk}})
}

func (s *rowSink) Failed(f target.NodeError) error {
	if describe("", f.Err).Code != Cut { // its rows are an answer
		s.failed[f.Node] = true
	}
	return s.send(&controlpb.ListProcessesResponse{Part: &controlpb.ListProcessesResponse_Error{Error: nodeErrorPB(f)}})
}

func fillProcess(p *controlpb.Process, t *target.Process) {
	p.Node = clean(t.Node)
	p.Pid = clean(t.Pid)
	p.RegisteredName = clean(t.RegisteredName)
	p.Memory = t.Memory
	p.Reductions = t.Reductions
	p.MessageQueueLen = t.MessageQueueLen
	p.CurrentFunction = clean(t.CurrentFunction)
	p.InitialCall = clean(t.InitialCall)
	p.Status = clean(t.Status)
	p.Rate = t.Rate
}
