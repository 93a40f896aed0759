//go:build unix

package sandboxbeam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
)

// A snapshot is a term in the external format, that the node makes and reads
// (boot/debughost_code.erl). It has the states of processes; code and config come with
// the spec.

// maxStates bounds a snapshot, in bytes.
const maxStates = 256 << 20

func init() {
	operations["states"] = func(s *Strategy, ctx context.Context, id string, raw []byte) (any, error) {
		if _, err := input[struct{}](raw); err != nil {
			return nil, err
		}
		n, err := s.node(id)
		if err != nil {
			return nil, err
		}
		answer, err := s.rpc(ctx, id, "debughost_code", "states", texts(n.State))
		if err != nil {
			return nil, err
		}
		states, err := toReply(answer)
		return map[string]any{"states": plain(states)}, err
	}
}

// node is the config that a sandbox runs with.
func (s *Strategy) node(id string) (Node, error) {
	n := defaultNode()
	raw, err := os.ReadFile(s.aside(id, configFile))
	if errors.Is(err, os.ErrNotExist) {
		return n, sdk.ErrNotFound
	}
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(raw, &n)
}

// Snapshot implements sdk.Snapshotter.
func (s *Strategy) Snapshot(ctx context.Context, id string, w io.Writer) error {
	if err := s.snapshot(ctx, id, w); err != nil {
		return fmt.Errorf("snapshot %.140s: %w", id, err)
	}
	return nil
}

func (s *Strategy) snapshot(ctx context.Context, id string, w io.Writer) error {
	if _, err := s.nodes.Inspect(ctx, id); err != nil {
		return err
	}
	n, err := s.node(id)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.home(id), "snapshot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, stateFile)
	own := etf.Term(etf.Atom("none"))
	if n.StateModule != "" {
		own = etf.Binary(n.StateModule)
	}
	answer, err := s.rpc(ctx, id, "debughost_code", "snapshot", texts(n.State), own, etf.Binary(file))
	if err == nil {
		_, err = toReply(answer)
	}
	if err != nil {
		return err
	}
	home, err := os.OpenRoot(s.home(id))
	if err != nil {
		return err
	}
	defer home.Close()
	f, err := home.OpenFile(filepath.Join(filepath.Base(dir), stateFile), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, errors.New("what its node wrote is not a file"))
	}
	if size, err := io.Copy(w, io.LimitReader(f, maxStates+1)); err != nil {
		return err
	} else if size > maxStates {
		return fmt.Errorf("its states are more than %d MB together", maxStates>>20)
	}
	return nil
}

// Restore implements sdk.Snapshotter.
func (s *Strategy) Restore(ctx context.Context, spec sdk.SandboxSpec, r io.Reader) (sdk.SandboxHandle, error) {
	n := defaultNode()
	err := sdk.DecodeConfig(spec.Config, &n)
	var h handle
	if err == nil {
		h, err = s.create(ctx, spec, n, r)
	}
	if err != nil {
		return sdk.SandboxHandle{}, fmt.Errorf("restore %.140s: %w", spec.ID, err)
	}
	return s.created(spec.ID, h)
}

// putStates puts states into the home that is made in dir, and tells what the boot
// module is to do with them: a term.
func putStates(dir string, n Node, states io.Reader) (string, error) {
	own := "none"
	if n.StateModule != "" {
		own = binary(n.StateModule)
	}
	if states == nil {
		if _, err := os.Lstat(filepath.Join(dir, buildDir, statesTerm)); err == nil {
			return fmt.Sprintf("{%q, none}", filepath.Join(buildDir, statesTerm)), nil
		}
		return "none", nil
	}
	f, err := os.OpenFile(filepath.Join(dir, stateFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	size, err := io.Copy(f, io.LimitReader(states, maxStates+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	if size > maxStates {
		return "", fmt.Errorf("the snapshot has more than %d MB", maxStates>>20)
	}
	return fmt.Sprintf("{%q, %s}", stateFile, own), nil
}

// texts is a list of binaries.
func texts(list []string) etf.List {
	terms := make(etf.List, len(list))
	for i, text := range list {
		terms[i] = etf.Binary(text)
	}
	return terms
}
