package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// A snapshot of a sandbox is a tar archive: snapshot.json says what it is, spec.json is
// the spec of the child, bundle.tar.gz what it is made of, where there is something,
// and states what its strategy made of the states of its processes. The values of its
// environment variables are not in it.
const sandboxFormat = 1

// maxStates bounds the states in a snapshot, in bytes: what a member takes.
const maxStates = 256 << 20

type sandboxHeader struct {
	Format    int       `json:"debughost_sandbox"`
	Taken     time.Time `json:"taken"`
	Debughost string    `json:"debughost"`
	Name      string    `json:"name"`
}

// sandboxSnapshot is a sandbox at a moment.
type sandboxSnapshot struct {
	header         sandboxHeader
	spec           *controlpb.ChildSpec
	bundle, states []byte
}

func (s *sandboxSnapshot) encode(w io.Writer) error {
	header, err := json.Marshal(s.header)
	if err != nil {
		return err
	}
	spec, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(s.spec)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		data []byte
	}{{"snapshot.json", header}, {"spec.json", spec}, {"bundle.tar.gz", s.bundle}, {"states", s.states}} {
		if err := out.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: s.header.Taken}); err != nil {
			return err
		}
		if _, err := out.Write(f.data); err != nil {
			return err
		}
	}
	return out.Close()
}

// readSandboxSnapshot reads a file that may be anything.
func readSandboxSnapshot(r io.Reader, name string) (*sandboxSnapshot, error) {
	bad := func(cause string, err error) error {
		return &snapshotError{name, cause, "`debughost sandbox snapshot` writes one", err}
	}
	s := &sandboxSnapshot{spec: &controlpb.ChildSpec{}}
	var header, spec []byte
	in := tar.NewReader(r)
	for _, f := range []struct {
		name string
		most int64
		to   *[]byte
	}{{"snapshot.json", 1 << 20, &header}, {"spec.json", 1 << 20, &spec}, {"bundle.tar.gz", 64 << 20, &s.bundle}, {"states", maxStates, &s.states}} {
		h, err := in.Next()
		if err != nil || h.Name != f.name || h.Typeflag != tar.TypeReg || h.Size > f.most {
			return nil, bad("this is no snapshot of a sandbox, or it is cut short", err)
		}
		if *f.to, err = io.ReadAll(in); err != nil {
			return nil, bad("it is cut short", err)
		}
		if f.name == "snapshot.json" {
			if err := json.Unmarshal(header, &s.header); err != nil || s.header.Format <= 0 {
				return nil, bad("this is no snapshot of a sandbox", err)
			}
			if s.header.Format != sandboxFormat {
				return nil, bad(fmt.Sprintf("it has version %d of the format, and this debughost reads version %d", s.header.Format, sandboxFormat), nil)
			}
		}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(spec, s.spec); err != nil {
		return nil, bad("its spec cannot be read", err)
	}
	return s, nil
}

type sandboxFileJSON struct {
	File    string `json:"file"`
	Sandbox string `json:"sandbox"`
	Version string `json:"version"`
	Taken   string `json:"taken"`
	Bytes   int    `json:"bytes"`
}

func (a *app) snapshotSandboxCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "snapshot NAME",
		Short: "Write a sandbox with its code, its config and its states to a file",
		Long: `Write what a sandbox is to a file: its code, its config, its limits, and the states of
the processes that its --state and --state-module name. It goes on meanwhile.
` + "`debughost sandbox restore`" + ` makes another one of it, on this cluster or elsewhere.

The values of its environment variables are not in the file. What its processes know is,
secrets too: it is for you alone to read (mode 0600), and an existing file is never
written over.`,
		Example: `  debughost sandbox snapshot shop
  debughost sandbox snapshot shop -f before-the-bug.sandbox`,
		Args: exactArgs("NAME"), Annotations: map[string]string{noCSV: "yes"}, ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.snapshotSandbox(ctx, c, args[0], file)
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write (default NAME-TIME.sandbox in the current directory)")
	return cmd
}

func (a *app) snapshotSandbox(ctx context.Context, c *control.Client, name, file string) error {
	res, err := a.findSandbox(ctx, c, name)
	if err != nil {
		return err
	}
	s := &sandboxSnapshot{
		header: sandboxHeader{sandboxFormat, a.now().UTC().Truncate(time.Second), thisVersion().Version, name},
		spec:   res.GetSpec(),
	}
	file = cmp.Or(file, name+"-"+s.header.Taken.Format("20060102T150405Z")+".sandbox")
	if _, err := os.Lstat(file); err == nil { // before much is fetched
		return fileThere(file)
	}
	if id := s.spec.GetBundle(); id != "" {
		if s.bundle, err = a.downloadBytes(ctx, c, id); err != nil {
			return err
		}
	}
	taking, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	states := &capped{most: maxStates}
	if err := c.SnapshotChild(taking, name, states); err != nil {
		return err
	}
	s.states = states.Bytes()
	var out bytes.Buffer
	if err := s.encode(&out); err != nil {
		return fmt.Errorf("write snapshot %s: %w", file, err)
	}
	if err := writeNewFile(file, out.Bytes()); err != nil {
		return err
	}
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"snapshot": sandboxFileJSON{file, name, s.spec.GetBundle(), s.header.Taken.Format(time.RFC3339), out.Len()}})
	}
	_, err = fmt.Fprintf(a.out, "wrote %s: version %s, states of %s\n", sane(file), cmp.Or(shortVersion(s.spec.GetBundle()), "none"), size(uint64(len(s.states))))
	return err
}

func fileThere(name string) error {
	return &hintedError{fmt.Errorf("write snapshot %s: it is there already", name), "-f takes another name; a snapshot is never written over"}
}

// writeNewFile makes a file for its owner alone, which must not be there yet.
func writeNewFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fileThere(name)
	}
	if err != nil {
		return fmt.Errorf("write snapshot %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(name)
		return fmt.Errorf("write snapshot %s: %w", name, err)
	}
	return nil
}

func (a *app) restoreSandboxCommand() *cobra.Command {
	var on string
	var env []string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "restore NAME FILE",
		Short: "Start a sandbox from a file that a snapshot wrote",
		Long: `Start the sandbox NAME from a file that ` + "`debughost sandbox snapshot`" + ` wrote: with the
code, the config and the limits of that, and with the states that its processes had. It
begins with these states again whenever it is started afresh. The call is written to the
audit log.`,
		Example: `  debughost sandbox restore shop2 before-the-bug.sandbox
  debughost sandbox restore shop2 shop.sandbox --on db2 --env DB_PASSWORD`,
		Args: exactArgs("NAME", "FILE"), Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, wait); err != nil {
				return err
			}
			f, err := os.Open(args[1])
			if err != nil {
				return fmt.Errorf("read snapshot: %w", err)
			}
			defer f.Close()
			s, err := readSandboxSnapshot(f, args[1])
			if err != nil {
				return err
			}
			spec, err := a.restoredSpec(cmd, s.spec, env)
			if err != nil {
				return err
			}
			if spec.Id = args[0]; on != "" {
				spec.Constraints = map[string]string{"member": on}
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.restoreSandbox(ctx, c, s, spec, wait)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&on, "on", "", "on this member and on no other, whatever the snapshot's was constrained to")
	fl.StringArrayVar(&env, "env", nil, "NAME=VALUE for its environment, or NAME for the value that it has here; may be repeated")
	fl.DurationVar(&wait, "wait", usualSandboxWait, "wait so long for it to run and to be attached to")
	_ = cmd.RegisterFlagCompletionFunc("on", forFlag(a.completeMembers))
	return cmd
}

// restoredSpec is the spec of a snapshot, whose variables have the values that are given
// now; those without are left out.
func (a *app) restoredSpec(cmd *cobra.Command, spec *controlpb.ChildSpec, env []string) (*controlpb.ChildSpec, error) {
	if spec.GetStrategy() != beamStrategy {
		return nil, fmt.Errorf("restore: what is in the snapshot is no sandbox: its strategy is %.50q", sane(spec.GetStrategy()))
	}
	config := map[string]any{}
	if spec.GetConfig() != "" {
		if err := json.Unmarshal([]byte(spec.GetConfig()), &config); err != nil {
			return nil, fmt.Errorf("restore: the config in the snapshot cannot be read: %w", err)
		}
	}
	had, _ := config["env"].(map[string]any)
	delete(config, "env")
	if err := (&specFlags{env: env}).overConfig(cmd, config, nil); err != nil {
		return nil, err
	}
	given, _ := config["env"].(map[string]any)
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(had)) {
		if _, ok := given[name]; !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		a.note("the values of %s are not in the snapshot; --env gives them", sane(strings.Join(missing, ", ")))
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	spec.Config = string(text)
	return spec, nil
}

func (a *app) restoreSandbox(ctx context.Context, c *control.Client, s *sandboxSnapshot, spec *controlpb.ChildSpec, wait time.Duration) error {
	if err := a.nameIsFree(ctx, c, spec.GetId()); err != nil {
		return err
	}
	spec.Bundle, spec.Seed = "", ""
	var err error
	if len(s.bundle) > 0 {
		if spec.Bundle, err = a.upload(ctx, c, s.bundle); err != nil {
			return err
		}
	}
	if len(s.states) > 0 {
		if spec.Seed, err = a.upload(ctx, c, s.states); err != nil {
			return err
		}
	}
	return a.startSandbox(ctx, c, spec, wait)
}
