package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/cmd/debughost/internal/bundle"
	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// shortVersion is as much of a version's id as a person needs.
func shortVersion(id string) string { return id[:min(len(id), 12)] }

// reloadReport is what a reload changed, as the strategy tells it.
type reloadReport struct {
	Loaded []struct {
		Module string `json:"module"`
		Was    string `json:"was"`
		Is     string `json:"is"`
	} `json:"loaded"`
	Added     []string `json:"added"`
	Removed   []string `json:"removed"`
	Processes []struct {
		Pid        string `json:"pid"`
		Module     string `json:"module"`
		CodeChange bool   `json:"code_change"`
	} `json:"processes"`
	TookMS int64 `json:"took_ms"`
}

func (a *app) reloadSandboxCommand() *cobra.Command {
	var from string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "reload NAME [--from DIR|FILE]",
		Short: "Put changed code into a sandbox that runs",
		Long: `Compile the source of a sandbox as it is now, or the one that --from names, and put the
modules that changed into the node that runs. Processes of these are suspended, their
state goes through code_change, and they go on. Of an .exs the modules are taken, and its
top level is not run again.

What does not compile, or whose code_change fails, changes nothing. A directory of .beam
files, or one of them, takes the place of those modules alone: that is for a sandbox that
was taken from a live node. The call is written to the audit log.`,
		Example: `  debughost sandbox reload shop
  debughost sandbox reload shop --from ./shop-fixed
  debughost sandbox reload bug7 --from _build/dev/lib/shop/ebin`,
		Args: exactArgs("NAME"), Annotations: map[string]string{noCSV: "yes"}, ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, wait); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				res, err := a.bundledSandbox(ctx, c, "reload", args[0])
				if err != nil {
					return err
				}
				path, err := reloadFrom(res.GetSpec(), from)
				if err != nil {
					return err
				}
				data, err := a.newVersion(ctx, c, res.GetSpec(), sourceOf(res.GetSpec()), path)
				if err != nil {
					return err
				}
				id, err := a.upload(ctx, c, data)
				if err != nil {
					return err
				}
				return a.reloadSandbox(ctx, c, args[0], id, path, wait)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the source, or compiled modules (default where it was taken from last)")
	reloadWaitFlag(cmd, &wait)
	return cmd
}

func reloadWaitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", usualSandboxWait, "wait so long for the compiler and the change")
}

// bundledSandbox is a sandbox that has a bundle.
func (a *app) bundledSandbox(ctx context.Context, c *control.Client, verb, name string) (*controlpb.GetChildResponse, error) {
	res, err := a.findSandbox(ctx, c, name)
	if err == nil && res.GetSpec().GetBundle() == "" {
		err = &control.Error{
			Code: control.Conflict, Cause: fmt.Sprintf("%s sandbox %s: it has no versions: there is no code of yours in it, or it reads its source from a path of its member", verb, name),
			Hint: "`debughost sandbox create --from` makes one that has",
		}
	}
	return res, err
}

// sourceOf is the path of a sandbox's source within its bundle; empty: the whole.
func sourceOf(spec *controlpb.ChildSpec) string {
	var config struct {
		Source string `json:"source"`
	}
	_ = json.Unmarshal([]byte(spec.GetConfig()), &config) // else it is somebody else's
	return config.Source
}

// reloadFrom is the absolute path that a reload takes its source from: the given one,
// or that of the latest version that has one.
func reloadFrom(spec *controlpb.ChildSpec, given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	for _, v := range slices.Backward(spec.GetVersions()) {
		if filepath.IsAbs(v.GetNote()) {
			return v.GetNote(), nil
		}
	}
	return "", usagef("reload: it is not known where the source of %s is: --from names it", spec.GetId())
}

// reloadSandbox has a sandbox run a bundle, and tells what that changed.
func (a *app) reloadSandbox(ctx context.Context, c *control.Client, name, id, note string, wait time.Duration) error {
	a.overwrite("compiling and loading…")
	defer a.overwrite("")
	reloading, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	res, err := c.Children.ReloadChild(reloading, &controlpb.ReloadChildRequest{Id: name, Bundle: id, Note: noteOf(note)})
	a.overwrite("")
	if err != nil {
		return err
	}
	var report reloadReport
	if err := json.Unmarshal([]byte(res.GetReport()), &report); err != nil {
		return fmt.Errorf("reload sandbox %s: it answers with no report: %w", name, err)
	}
	if a.output == asJSON {
		found, err := a.findSandbox(ctx, c, name)
		if err != nil {
			return err
		}
		row := a.sandboxRow(found)
		row.Version = id
		var all any // what is not known here, too
		if err := json.Unmarshal([]byte(res.GetReport()), &all); err != nil {
			return err
		}
		return writeJSON(a.out, map[string]any{"sandbox": row, "report": all})
	}
	w := bufio.NewWriter(a.out)
	fmt.Fprintf(w, "sandbox %s runs version %s, %s later\n", sane(name), shortVersion(id), time.Duration(report.TookMS)*time.Millisecond)
	for _, m := range report.Loaded {
		fmt.Fprintf(w, "  %s  %s, was %s\n", sane(short(m.Module)), sane(shortHash(m.Is)), sane(shortHash(m.Was)))
	}
	for _, m := range report.Added {
		fmt.Fprintf(w, "  %s  is new\n", sane(short(m)))
	}
	for _, m := range report.Removed {
		fmt.Fprintf(w, "  %s  is gone\n", sane(short(m)))
	}
	for _, p := range report.Processes {
		how := "went on with the new code"
		if p.CodeChange {
			how = "went through code_change"
		}
		fmt.Fprintf(w, "  %s of %s %s\n", sane(p.Pid), sane(short(p.Module)), how)
	}
	if len(report.Loaded)+len(report.Added)+len(report.Removed) == 0 {
		fmt.Fprintln(w, "  no module is another than before")
	}
	return w.Flush()
}

// shortHash is as much of a module's version as tells two of them apart.
func shortHash(md5 string) string { return md5[:min(len(md5), 8)] }

func (a *app) rollbackSandboxCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rollback NAME [VERSION]",
		Short: "Put an earlier version into a sandbox that runs",
		Long: `Have a sandbox run an earlier version, as a reload does: the one before, or VERSION,
which is the beginning of its id. What cannot be loaded changes nothing. The call is
written to the audit log.`,
		Example: `  debughost sandbox rollback shop
  debughost sandbox rollback shop 3f2a91`,
		Args: optionalArgs(1, "NAME", "VERSION"), Annotations: map[string]string{noCSV: "yes"}, ValidArgsFunction: a.completeVersions(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, wait); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				res, err := a.bundledSandbox(ctx, c, "roll back", args[0])
				if err != nil {
					return err
				}
				v := before(res.GetSpec())
				if len(args) > 1 {
					v, err = findVersion(res.GetSpec(), args[1])
				} else if v == nil {
					err = &control.Error{Code: control.Conflict, Cause: "roll back sandbox " + args[0] + ": it has had one version only"}
				}
				if err != nil {
					return err
				}
				return a.reloadSandbox(ctx, c, args[0], v.GetBundle(), v.GetNote(), wait)
			})
		},
	}
	reloadWaitFlag(cmd, &wait)
	return cmd
}

// before is the latest version that is another than the one that runs; nil: none.
func before(spec *controlpb.ChildSpec) *controlpb.ChildVersion {
	for _, v := range slices.Backward(spec.GetVersions()) {
		if v.GetBundle() != spec.GetBundle() {
			return v
		}
	}
	return nil
}

// findVersion finds a version by the beginning of its id.
func findVersion(spec *controlpb.ChildSpec, prefix string) (*controlpb.ChildVersion, error) {
	var found *controlpb.ChildVersion
	hint := "`debughost sandbox versions " + spec.GetId() + "` lists them"
	for _, v := range spec.GetVersions() {
		switch {
		case prefix == "" || !strings.HasPrefix(v.GetBundle(), strings.ToLower(prefix)):
		case found != nil && found.GetBundle() != v.GetBundle():
			return nil, &control.Error{Code: control.BadRequest, Cause: fmt.Sprintf("sandbox %s has several versions that begin with %s", spec.GetId(), prefix), Hint: hint}
		default:
			found = v
		}
	}
	if found == nil {
		return nil, &control.Error{Code: control.BadRequest, Cause: fmt.Sprintf("sandbox %s has no version %q", spec.GetId(), prefix), Hint: hint}
	}
	return found, nil
}

type sandboxVersionJSON struct {
	Version string    `json:"version"` // id of the bundle
	Since   time.Time `json:"since"`
	From    string    `json:"from"`    // where it was taken from; empty: that is not known
	Current bool      `json:"current"` // it runs
}

type moduleJSON struct {
	Module  string    `json:"module"`
	Version string    `json:"version"` // MD5 of its code
	Since   time.Time `json:"since"`
	Was     []struct {
		Version string    `json:"version"`
		Since   time.Time `json:"since"`
	} `json:"was"`
}

func (a *app) sandboxVersionsCommand() *cobra.Command {
	var modules bool
	cmd := &cobra.Command{
		Use:   "versions NAME",
		Short: "Show what a sandbox has run, and when",
		Long: `Show the versions that a sandbox has run, oldest first, at most 20. A version is the
SHA-256 of what was packed. With --modules, show the modules that it has loaded and the
versions of each, by the MD5 of their code.`,
		Example: `  debughost sandbox versions shop
  debughost sandbox versions shop --modules`,
		Args: exactArgs("NAME"), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				res, err := a.findSandbox(ctx, c, args[0])
				if err != nil {
					return err
				}
				if modules {
					return a.moduleVersions(ctx, c, args[0])
				}
				return a.printVersions(res.GetSpec())
			})
		},
	}
	cmd.Flags().BoolVar(&modules, "modules", false, "of each module")
	return cmd
}

func (a *app) printVersions(spec *controlpb.ChildSpec) error {
	l := listing[sandboxVersionJSON]{
		plural: "versions", header: []string{"version", "since", "from", "current"}, note: spec.GetId() + " has no versions: there is no code of yours in it",
		csv: func(v sandboxVersionJSON) []string {
			return []string{v.Version, v.Since.Format(time.RFC3339), v.From, yes(v.Current)}
		},
		grid: []column{{name: "version"}, {name: "since"}, {name: "now"}, {name: "from", free: true}},
		cells: func(v sandboxVersionJSON) []string {
			now := ""
			if v.Current {
				now = "runs"
			}
			return []string{shortVersion(v.Version), v.Since.Format("2006-01-02 15:04:05Z"), now, v.From}
		},
	}
	for i, v := range spec.GetVersions() {
		l.rows = append(l.rows, sandboxVersionJSON{v.GetBundle(), v.GetAt().AsTime(), v.GetNote(), i == len(spec.GetVersions())-1})
	}
	return printListing(a, l)
}

func (a *app) moduleVersions(ctx context.Context, c *control.Client, name string) error {
	var all struct {
		Modules []moduleJSON `json:"modules"`
	}
	if err := a.operate(ctx, c, name, "versions", struct{}{}, &all); err != nil {
		return err
	}
	l := listing[moduleJSON]{
		plural: "modules", rows: all.Modules, header: []string{"module", "version", "since", "was"}, note: name + " has no modules of its own",
		csv: func(m moduleJSON) []string {
			return []string{m.Module, m.Version, m.Since.UTC().Format(time.RFC3339), wasText(m, func(s string) string { return s })}
		},
		grid: []column{{name: "module", least: 16}, {name: "version"}, {name: "since"}, {name: "was", free: true}},
		cells: func(m moduleJSON) []string {
			return []string{short(m.Module), shortHash(m.Version), m.Since.UTC().Format("2006-01-02 15:04:05Z"), wasText(m, shortHash)}
		},
	}
	return printListing(a, l)
}

func wasText(m moduleJSON, shown func(string) string) string {
	var out []string
	for _, v := range m.Was {
		out = append(out, shown(v.Version))
	}
	return strings.Join(out, " ")
}

// operate has the strategy of a sandbox do something.
func (a *app) operate(ctx context.Context, c *control.Client, name, operation string, in, out any) error {
	input, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, operateTime)
	defer cancel()
	res, err := c.Children.OperateChild(ctx, &controlpb.OperateChildRequest{Id: name, Operation: operation, Input: string(input)})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(res.GetOutput()), out); err != nil {
		return fmt.Errorf("%s in sandbox %s: the answer is not as it should be: %w", operation, name, err)
	}
	return nil
}

// operateTime bounds what a sandbox's node is asked to do.
const operateTime = time.Minute

type fileChangeJSON struct {
	Path  string `json:"path"`
	State string `json:"state"` // added, removed, changed
	Was   string `json:"was"`   // SHA-256 of the content; empty: there was none
	Is    string `json:"is"`
	Diff  string `json:"diff"` // unified; empty of what is no text
}

func (a *app) sandboxDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff NAME [VERSION [VERSION]]",
		Short: "Show what differs between two versions of a sandbox",
		Long: `Show the differences between the files of two versions as diff -u does; of what is no
text, such as compiled modules, names and hashes. Without VERSION these are the one that
runs and the latest other one; with one, it and the one that runs. A VERSION is the
beginning of its id.`,
		Example: `  debughost sandbox diff shop
  debughost sandbox diff shop 3f2a91 77be04 > fix.patch`,
		Args: optionalArgs(1, "NAME", "VERSION", "VERSION"), Annotations: map[string]string{noCSV: "yes"}, ValidArgsFunction: a.completeVersions(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				res, err := a.bundledSandbox(ctx, c, "compare", args[0])
				if err != nil {
					return err
				}
				from, to := before(res.GetSpec()).GetBundle(), res.GetSpec().GetBundle()
				for i, to := range []*string{&from, &to}[:len(args)-1] {
					v, err := findVersion(res.GetSpec(), args[i+1])
					if err != nil {
						return err
					}
					*to = v.GetBundle()
				}
				if from == "" {
					return &control.Error{Code: control.Conflict, Cause: "compare versions of sandbox " + args[0] + ": it has had one version only"}
				}
				return a.diffVersions(ctx, c, args[0], from, to)
			})
		},
	}
}

func (a *app) diffVersions(ctx context.Context, c *control.Client, name, from, to string) error {
	was, err := a.download(ctx, c, from)
	if err != nil {
		return err
	}
	is, err := a.download(ctx, c, to)
	if err != nil {
		return err
	}
	changes := bundle.Diff(was, is)
	if a.output == asJSON {
		files := []fileChangeJSON{}
		for _, f := range changes {
			files = append(files, fileChangeJSON(f))
		}
		return writeJSON(a.out, map[string]any{"diff": map[string]any{"sandbox": name, "from": from, "to": to, "files": files}})
	}
	w := bufio.NewWriter(a.out)
	for _, f := range changes {
		if f.Diff == "" {
			fmt.Fprintf(w, "%s %s: %s, was %s\n", sane(f.Path), f.State, cmp.Or(shortVersion(f.Is), "none"), cmp.Or(shortVersion(f.Was), "none"))
			continue
		}
		a.writeDiff(w, f.Diff)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(changes) == 0 {
		a.note("versions %s and %s have the same files", shortVersion(from), shortVersion(to))
	}
	return nil
}

// writeDiff writes a unified diff: in a file as it is, on a terminal harmless and
// coloured.
func (a *app) writeDiff(w *bufio.Writer, diff string) {
	if !a.outTTY {
		_, _ = w.WriteString(diff)
		return
	}
	for line := range strings.Lines(diff) {
		line = sane(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "        "))
		color := map[string]string{"-": "31", "+": "32", "@": "36"}[line[:min(len(line), 1)]]
		if strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ ") {
			color = "1"
		}
		if color != "" && a.colors() {
			line = "\x1b[" + color + "m" + line + "\x1b[0m"
		}
		_, _ = w.WriteString(line + "\n")
	}
}

// completeVersions offers sandboxes, then the versions of the one that is named.
func (a *app) completeVersions(most int) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return a.completeSandboxes(cmd, args, prefix)
		}
		var out []cobra.Completion
		if len(args) <= most {
			a.ask(cmd, func(ctx context.Context, c *control.Client) error {
				res, err := a.findSandbox(ctx, c, args[0])
				for _, v := range res.GetSpec().GetVersions() {
					if strings.HasPrefix(v.GetBundle(), prefix) {
						out = append(out, cobra.CompletionWithDesc(shortVersion(v.GetBundle()), sane(v.GetNote())))
					}
				}
				return err
			})
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
