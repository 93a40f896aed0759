package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/debughost/debughost/sdk"
)

// What a spec leaves out.
const (
	defaultMaxRestarts     = 3
	defaultMaxRestartsIn   = 5 * time.Second
	defaultShutdownTimeout = 5 * time.Second
)

// Bounds of a spec.
const (
	maxID      = 128
	maxSpec    = 48 << 10 // of its JSON, so that a record stays below maxRecord
	maxApart   = 100
	maxLabels  = 100
	maxTimeout = 24 * time.Hour

	maxVersions = 20
	maxNote     = 200 // bytes
)

// validID tells whether a text can name a child.
func validID(id string) bool {
	if len(id) == 0 || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// validBlob tells whether a text can be the id of a blob: a SHA-256 in lower-case
// hexadecimal digits.
func validBlob(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// complete returns a spec of its own memory with what it left out.
func (s Spec) complete() Spec {
	s.Config, s.Constraints, s.Apart = bytes.Clone(s.Config), maps.Clone(s.Constraints), slices.Clone(s.Apart)
	s.Versions = slices.Clone(s.Versions)
	if s.Restart == "" {
		s.Restart = sdk.RestartPermanent
	}
	if s.MaxRestarts == 0 {
		s.MaxRestarts = defaultMaxRestarts
	}
	if s.MaxRestartsIn == 0 {
		s.MaxRestartsIn = defaultMaxRestartsIn
	}
	if s.ShutdownTimeout == 0 {
		s.ShutdownTimeout = defaultShutdownTimeout
	}
	if s.Handoff == "" {
		s.Handoff = sdk.HandoffNone
	}
	return s
}

// sparse returns a complete spec without what complete puts in.
func (s Spec) sparse() Spec {
	if s.Restart == sdk.RestartPermanent {
		s.Restart = ""
	}
	if s.MaxRestarts == defaultMaxRestarts {
		s.MaxRestarts = 0
	}
	if s.MaxRestartsIn == defaultMaxRestartsIn {
		s.MaxRestartsIn = 0
	}
	if s.ShutdownTimeout == defaultShutdownTimeout {
		s.ShutdownTimeout = 0
	}
	if s.Handoff == sdk.HandoffNone {
		s.Handoff = ""
	}
	return s
}

// check tells what is wrong with a complete spec.
func (s *Spec) check() error {
	bad := func(format string, args ...any) error {
		return &SpecError{ID: s.ID, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case !validID(s.ID):
		return bad("an id has 1 to %d letters, digits and ._-, and begins with a letter or a digit", maxID)
	case !validID(s.Strategy):
		return bad("strategy: it has to name a sandbox strategy, such as process")
	case s.Placement != "" && !validID(s.Placement):
		return bad("placement: %.50q names no strategy", s.Placement)
	case !slices.Contains([]sdk.Restart{sdk.RestartPermanent, sdk.RestartTransient, sdk.RestartTemporary}, s.Restart):
		return bad("restart: %.50q is neither permanent nor transient nor temporary", s.Restart)
	case s.Handoff != sdk.HandoffNone && s.Handoff != sdk.HandoffSnapshot:
		return bad("handoff: %.50q is neither none nor snapshot", s.Handoff)
	case s.MaxRestartsIn < time.Millisecond || s.MaxRestartsIn > maxTimeout:
		return bad("max_restarts_in: %s is not between 1ms and %s", s.MaxRestartsIn, maxTimeout)
	case s.ShutdownTimeout < 0 || s.ShutdownTimeout > maxTimeout:
		return bad("shutdown_timeout: %s is not between 0 and %s", s.ShutdownTimeout, maxTimeout)
	case s.MaxRestarts > 1_000_000:
		return bad("max_restarts: %d is more than 1000000", s.MaxRestarts)
	case len(s.Apart) > maxApart:
		return bad("apart: %d ids, and at most %d are allowed", len(s.Apart), maxApart)
	case len(s.Constraints) > maxLabels:
		return bad("constraints: %d labels, and at most %d are allowed", len(s.Constraints), maxLabels)
	}
	if i := slices.IndexFunc(s.Apart, func(id string) bool { return !validID(id) }); i >= 0 {
		return bad("apart: %.50q is no child's id", s.Apart[i])
	}
	if err := s.checkBlobs(bad); err != nil {
		return err
	}
	return s.checkConfig(bad)
}

func (s *Spec) checkBlobs(bad func(string, ...any) error) error {
	switch {
	case s.Bundle != "" && !validBlob(s.Bundle):
		return bad("bundle: %.80q is no id of a blob: 64 lower-case hexadecimal digits", s.Bundle)
	case s.Seed != "" && !validBlob(s.Seed):
		return bad("seed: %.80q is no id of a blob: 64 lower-case hexadecimal digits", s.Seed)
	case len(s.Versions) > maxVersions:
		return bad("versions: %d, and at most %d are allowed", len(s.Versions), maxVersions)
	}
	for _, v := range s.Versions {
		if !validBlob(v.Bundle) || len(v.Note) > maxNote || !utf8.ValidString(v.Note) {
			return bad("versions: one is no id of a blob, or its note is no text of at most %d bytes", maxNote)
		}
	}
	return nil
}

func (s *Spec) checkConfig(bad func(string, ...any) error) error {
	if config := bytes.TrimSpace(s.Config); len(config) > 0 && (config[0] != '{' || !json.Valid(config)) {
		return bad("config: it is no JSON object")
	}
	if l := s.Limits; !(l.CPUs >= 0 && l.CPUs <= 1e6) || l.Processes < 0 || l.OpenFiles < 0 {
		return bad("limits: one of them is below zero or not a number")
	}
	if b, err := marshal(s); err != nil || len(b) > maxSpec {
		return bad("it is larger than %d bytes", maxSpec)
	}
	return nil
}

// sandbox is the spec in a sandbox strategy's words.
func (s *Spec) sandbox(orphan time.Duration) sdk.SandboxSpec {
	config := s.Config
	if len(config) == 0 {
		config = []byte("{}")
	}
	return sdk.SandboxSpec{ID: s.ID, Config: config, Limits: s.Limits, Orphan: orphan}
}

// child is the spec in a placement strategy's words.
func (s *Spec) child() sdk.ChildSpec {
	return sdk.ChildSpec{
		ID: s.ID, Strategy: s.Strategy, Config: s.Config, Restart: s.Restart, MaxRestarts: s.MaxRestarts, MaxRestartsIn: s.MaxRestartsIn,
		ShutdownTimeout: s.ShutdownTimeout, Limits: s.Limits, Constraints: s.Constraints, Near: s.Near, Apart: s.Apart, Handoff: s.Handoff,
	}
}
