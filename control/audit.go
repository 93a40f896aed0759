package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "github.com/debughost/debughost/control/proto"
)

// AuditRecord is one destructive call, or one that was forced.
type AuditRecord struct {
	Time    time.Time       `json:"time"` // when it began
	UID     *uint32         `json:"uid"`  // null: unknown
	OSPid   int32           `json:"os_pid,omitempty"`
	Member  string          `json:"member,omitempty"` // the member that passed the call on, which has a record of it, too
	For     string          `json:"for,omitempty"`    // whose call that was
	Call    string          `json:"call,omitempty"`   // the same in the records of both members
	Method  string          `json:"method"`
	Args    json.RawMessage `json:"args,omitempty"` // the request without its secrets
	Outcome string          `json:"outcome"`        // done, or a Code; begun: another record tells the end
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
	TookMS  int64           `json:"took_ms"`
}

// Auditor keeps audit records. It is called from many goroutines.
type Auditor interface {
	Record(AuditRecord) error
}

func startAudit(c Caller, method string, req any) AuditRecord {
	r := AuditRecord{Time: time.Now(), OSPid: c.OSPid, Member: c.Member, For: clean(c.For), Call: clean(c.Call), Method: method}
	if c.Known {
		r.UID = &c.UID
	}
	if m, ok := req.(proto.Message); ok {
		r.Args = auditArgs(m)
	}
	return r
}

// finishAudit writes the record, to the log in any case. A failure to write
// the file does not fail the call: on a full disk, killing the process that
// fills it must still work.
func (g *gate) finishAudit(r AuditRecord, res any, err error) {
	r.Outcome = "done"
	if m, ok := res.(proto.Message); ok && err == nil {
		r.Result = auditArgs(m)
	}
	if err != nil {
		e := describe(r.Method, err)
		r.Outcome, r.Error = string(e.Code), e.Cause
	}
	r.TookMS = time.Since(r.Time).Milliseconds()
	g.writeAudit(r)
}

func (g *gate) writeAudit(r AuditRecord) {
	fields := logrus.Fields{"method": r.Method, "args": string(r.Args), "outcome": r.Outcome}
	if r.UID != nil {
		fields["uid"] = *r.UID
	}
	if r.Member != "" {
		fields["from"], fields["for"] = r.Member, r.For
	}
	if r.Error != "" {
		fields["err"] = r.Error
	}
	g.log.WithFields(fields).Info("destructive call")
	if g.audit == nil {
		return
	}
	if err := g.audit.Record(r); err != nil {
		g.log.WithError(err).Error("audit record not written")
	}
}

// auditArgs prints a request or an answer without the fields marked as secret.
func auditArgs(m proto.Message) json.RawMessage {
	m = proto.Clone(m)
	dropSecrets(m.ProtoReflect())
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil
	}
	var out bytes.Buffer // protojson varies its spaces on purpose
	if json.Compact(&out, b) != nil {
		return nil
	}
	return out.Bytes()
}

func dropSecrets(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case isSecret(fd):
			m.Clear(fd)
		case isChildConfig(fd):
			m.Set(fd, protoreflect.ValueOfString(string(hideEnv([]byte(v.String())))))
		case fd.Message() == nil || fd.IsMap(): // keep it
		case fd.IsList():
			for i := range v.List().Len() {
				dropSecrets(v.List().Get(i).Message())
			}
		default:
			dropSecrets(v.Message())
		}
		return true
	})
}

func isSecret(fd protoreflect.FieldDescriptor) bool {
	return proto.GetExtension(fd.Options(), controlpb.E_Secret).(bool)
}

func isChildConfig(fd protoreflect.FieldDescriptor) bool {
	return proto.GetExtension(fd.Options(), controlpb.E_ChildConfig).(bool)
}

// AuditFile appends records to a file, one JSON object a line. At MaxBytes it
// moves the file to the same name with .1 behind it, in place of the last such
// one.
type AuditFile struct {
	Path     string
	MaxBytes int64 // default 10 MiB

	mu sync.Mutex
}

// Record appends one record. It opens the file anew each time: destructive
// calls are rare, and so a rotation by others or a disk that comes back needs
// no signal.
func (a *AuditFile) Record(r AuditRecord) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // <0.1.2> must stay readable
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	limit := a.MaxBytes
	if limit <= 0 {
		limit = 10 << 20
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	size := int64(0)
	if fi, err := os.Stat(a.Path); err == nil {
		size = fi.Size()
	}
	if size >= limit {
		if err := os.Rename(a.Path, a.Path+".1"); err != nil {
			return fmt.Errorf("rotate audit log: %w", err)
		}
		size = 0
	}
	f, err := os.OpenFile(a.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	if _, err = f.Write(line.Bytes()); err != nil {
		err = errors.Join(err, f.Truncate(size)) // half a line would spoil the next one
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return nil
}
