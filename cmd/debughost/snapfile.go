package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	controlpb "github.com/debughost/debughost/control/proto"
)

// A snapshot file is JSON, one object a line, compressed with gzip: a header, a
// NodeSnapshot for each node, and an end, by which a file that was cut short is
// known. `zcat` shows it. A reader takes fields that it does not know for those
// of a later debughost, and refuses only another version of the format.
//
//	{"debughost_snapshot":1,"taken":"2026-01-31T12:00:00Z","debughost":"v0.4.0"}
//	{"node":"shop@db1","taken":…,"memory":[{"name":"total","value":"48213008"},…],…}
//	{"end":1}
const snapshotFormat = 1

// What a reader takes of a file that may be anybody's.
const (
	maxSnapshotBytes = 512 << 20 // uncompressed
	maxSnapshotLine  = 16 << 20
	maxSnapshotNodes = 10_000
)

// snapshot is the cluster at a moment.
type snapshot struct {
	taken time.Time
	nodes []*controlpb.NodeSnapshot
}

type snapshotHeader struct {
	Format    int       `json:"debughost_snapshot"`
	Taken     time.Time `json:"taken"`
	Debughost string    `json:"debughost"`
}

type snapshotEnd struct {
	End *int `json:"end"` // how many nodes there are
}

// snapshotError says what is wrong with a file.
type snapshotError struct {
	file, cause, hint string
	err               error
}

func (e *snapshotError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("read snapshot %s: %s: %v", e.file, e.cause, e.err)
	}
	return fmt.Sprintf("read snapshot %s: %s", e.file, e.cause)
}

func (e *snapshotError) Unwrap() error { return e.err }
func (e *snapshotError) Hint() string  { return e.hint }

// encode writes the file's bytes.
func (s *snapshot) encode(w io.Writer, version string) error {
	z := gzip.NewWriter(w)
	enc := json.NewEncoder(z)
	if err := enc.Encode(snapshotHeader{snapshotFormat, s.taken, version}); err != nil {
		return err
	}
	for _, n := range s.nodes {
		line, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(n)
		if err != nil {
			return err
		}
		if _, err := z.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	n := len(s.nodes)
	if err := enc.Encode(snapshotEnd{&n}); err != nil {
		return err
	}
	return z.Close()
}

// write makes the file, which must not be there yet. It tells its size.
func (s *snapshot) write(name, version string) (int, error) {
	var b bytes.Buffer
	if err := s.encode(&b, version); err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", name, err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return 0, &hintedError{fmt.Errorf("write snapshot %s: it is there already", name), "-f takes another name; a snapshot is never written over"}
	}
	if err != nil {
		return 0, fmt.Errorf("write snapshot %s: %w", name, err)
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(name)
		return 0, fmt.Errorf("write snapshot %s: %w", name, err)
	}
	return b.Len(), nil
}

// hintedError is an error with advice.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

func readSnapshotFile(name string) (*snapshot, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	return readSnapshot(f, name)
}

// readSnapshot reads a file that may be cut short, or anything else.
func readSnapshot(r io.Reader, name string) (*snapshot, error) {
	foreign := func(err error) error {
		return &snapshotError{name, "this is no snapshot of debughost", "`debughost snapshot` writes one", err}
	}
	z, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, foreign(nil)
	}
	lines := bufio.NewScanner(io.LimitReader(z, maxSnapshotBytes))
	lines.Buffer(make([]byte, 0, 64<<10), maxSnapshotLine)
	var header snapshotHeader
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &header) != nil || header.Format <= 0 {
		return nil, foreign(lines.Err())
	}
	if header.Format != snapshotFormat {
		return nil, &snapshotError{name, fmt.Sprintf("it has version %d of the format, and this debughost reads version %d", header.Format, snapshotFormat), "it was written by another debughost: " + sane(header.Debughost), nil}
	}
	s := &snapshot{taken: header.Taken}
	for lines.Scan() {
		var end snapshotEnd
		if json.Unmarshal(lines.Bytes(), &end) == nil && end.End != nil {
			if *end.End != len(s.nodes) {
				return nil, &snapshotError{name, fmt.Sprintf("it has %d nodes and says %d", len(s.nodes), *end.End), "", nil}
			}
			if lines.Scan() || lines.Err() != nil { // the checksum is behind the end
				return nil, &snapshotError{name, "it is damaged at its end", "", lines.Err()}
			}
			return s, nil
		}
		if len(s.nodes) == maxSnapshotNodes {
			return nil, &snapshotError{name, fmt.Sprintf("it has more than %d nodes", maxSnapshotNodes), "", nil}
		}
		n := &controlpb.NodeSnapshot{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(lines.Bytes(), n); err != nil {
			if lines.Scan(); errors.Is(lines.Err(), io.ErrUnexpectedEOF) {
				break // the last line of a file that was cut short
			}
			return nil, &snapshotError{name, fmt.Sprintf("line %d is no node", len(s.nodes)+2), "", err}
		}
		s.nodes = append(s.nodes, n)
	}
	return nil, &snapshotError{name, fmt.Sprintf("it is cut short after %d nodes", len(s.nodes)), "was it copied whole?", lines.Err()}
}
