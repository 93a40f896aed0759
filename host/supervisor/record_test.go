package supervisor

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/debughost/debughost/sdk"
)

func versions(epochs int) *rapid.Generator[version] {
	return rapid.Custom(func(t *rapid.T) version {
		return versionOf(uint64(rapid.IntRange(0, epochs).Draw(t, "epoch")), rapid.Bool().Draw(t, "quorum"),
			rapid.SampledFrom([]string{"a", "b"}).Draw(t, "author"), int64(rapid.IntRange(0, 1).Draw(t, "at")))
	})
}

// records draws records of one child. What a part says is a function of its
// version, as it is where nobody writes two things under one.
func records() *rapid.Generator[record] {
	return rapid.Custom(func(t *rapid.T) record {
		i, a, o := versions(2).Draw(t, "intent"), versions(2).Draw(t, "assignment"), versions(2).Draw(t, "outcome")
		i.Epoch++
		at := int64(rapid.IntRange(0, 2).Draw(t, "outcome at"))
		spec := Spec{ID: "x", Strategy: "process"}.complete()
		spec.MaxRestarts = int(i.Epoch)
		return record{
			ID: "x", Intent: intent{Version: i, Wanted: wantRunning, Spec: bodyOf(&spec)},
			Assignment: assignment{Version: a, Member: "m" + a.signature().author, Why: wordOf(string(rune('0' + a.Epoch)))},
			Outcome:    &outcome{For: o, State: Failed, At: at},
		}
	})
}

// Members get records in any order, and any number of times: it must not matter.
func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := records().Draw(t, "a"), records().Draw(t, "b"), records().Draw(t, "c")
		require.Equal(t, merge(a, b), merge(b, a))
		require.Equal(t, merge(merge(a, b), c), merge(a, merge(b, c)))
		require.Equal(t, a, merge(a, a))
		m := merge(a, b)
		require.Equal(t, m, merge(m, a))
		ms := m.stamp()
		require.True(t, ms.covers(a.stamp()) && ms.covers(b.stamp()))
		if as := a.stamp(); as.covers(b.stamp()) {
			require.Equal(t, a, m)
		}
	})
}

// An operator's word and an arbiter's, given out of each other's sight, both hold.
func TestMergeKeepsBothParts(t *testing.T) {
	spec := Spec{ID: "x", Strategy: "process"}.complete()
	old := record{ID: "x", Intent: intent{Version: version{Epoch: 1}, Wanted: wantRunning, Spec: bodyOf(&spec)}, Assignment: assignment{Version: version{Epoch: 1}, Member: "a"}}
	stopped, moved := old, old
	stopped.Intent = intent{Version: versionOf(2, false, "a", 0), Wanted: wantStopped, Spec: bodyOf(&spec)}
	moved.Assignment = assignment{Version: versionOf(2, false, "b", 0), Member: "b"}
	m := merge(stopped, moved)
	require.Equal(t, wantStopped, m.Intent.Wanted)
	require.Equal(t, "b", m.Assignment.Member)
}

func TestRecordSurvivesItsCoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := records().Draw(t, "record")
		back, err := parseRecord(r.encode())
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func TestSpecs(t *testing.T) {
	good := func() Spec { return Spec{ID: "web-1", Strategy: "process"} }
	for name, change := range map[string]func(*Spec){
		"no id":          func(s *Spec) { s.ID = "" },
		"id with slash":  func(s *Spec) { s.ID = "a/b" },
		"id begins so":   func(s *Spec) { s.ID = ".hidden" },
		"long id":        func(s *Spec) { s.ID = string(make([]byte, 129)) },
		"no strategy":    func(s *Spec) { s.Strategy = "" },
		"restart":        func(s *Spec) { s.Restart = "always" },
		"handoff":        func(s *Spec) { s.Handoff = "teleport" },
		"config":         func(s *Spec) { s.Config = json.RawMessage(`[1]`) },
		"broken config":  func(s *Spec) { s.Config = json.RawMessage(`{"a":`) },
		"large config":   func(s *Spec) { s.Config = json.RawMessage(`{"a":"` + string(bytesOf('x', maxSpec)) + `"}`) },
		"apart":          func(s *Spec) { s.Apart = []string{"a b"} },
		"time":           func(s *Spec) { s.MaxRestartsIn = -1 },
		"shutdown":       func(s *Spec) { s.ShutdownTimeout = -1 },
		"limit":          func(s *Spec) { s.Limits.Processes = -1 },
		"placement name": func(s *Spec) { s.Placement = "../x" },
	} {
		s := good()
		change(&s)
		s = s.complete()
		err := s.check()
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	s := good().complete()
	require.NoError(t, s.check())
	require.Equal(t, sdk.RestartPermanent, s.Restart)
}

func bytesOf(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// A record comes from other members: whatever it is, it is an error or a valid one.
func FuzzParseRecord(f *testing.F) {
	spec := Spec{ID: "x", Strategy: "process", Config: json.RawMessage(`{"command":["true"]}`)}.complete()
	r := record{ID: "x", Intent: intent{Version: versionOf(1, false, "a", 0), Wanted: wantRunning, Spec: bodyOf(&spec)}}
	f.Add(r.encode())
	f.Add([]byte(`{"id":"x","i":{"v":{"e":1},"w":"removed"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		back, err := parseRecord(r.encode())
		if err != nil {
			t.Fatalf("%+v is written as what cannot be read: %v", r, err)
		}
		if back.stamp() != r.stamp() {
			t.Fatalf("%+v came back as %+v", r, back)
		}
	})
}

// What an operator wrote into a config is shown as it was written, after the disk
// and the wire too.
func TestConfigIsKeptAsWritten(t *testing.T) {
	config := `{"command":["sh","-c","a <b >c && d"]}`
	spec := Spec{ID: "x", Strategy: "process", Config: []byte(config)}.complete()
	r := record{ID: "x", Intent: intent{Version: version{Epoch: 1}, Wanted: wantRunning, Spec: bodyOf(&spec)}}
	sent, err := marshal(envelope{1, 1, r.encode()})
	require.NoError(t, err)
	var e envelope
	require.NoError(t, json.Unmarshal(sent, &e))
	got, err := parseRecord(e.Record)
	require.NoError(t, err)
	require.Equal(t, config, string(got.spec().Config))
}
