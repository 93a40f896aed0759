package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = ""

// thisVersion tells what this program was built from.
func thisVersion() control.Version {
	v := control.Version{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if v.Version == "" {
			v.Version = info.Main.Version // of `go install …@v1.2.3`
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if v.Version == "" || v.Version == "(devel)" {
		v.Version = "dev"
	}
	return v
}

// versionJSON is a version in JSON.
type versionJSON struct {
	Version string       `json:"version"`
	Commit  string       `json:"commit"`
	Go      string       `json:"go"`
	Running *versionJSON `json:"running,omitempty"` // the debughost that answers, if one does
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the debughost that runs",
		Example: `  debughost version
  debughost version -o json`,
		Args:        exactArgs(),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printVersion(cmd.Context())
		},
	}
}

func (a *app) printVersion(ctx context.Context) error {
	here := thisVersion()
	v := versionJSON{Version: here.Version, Commit: here.Commit, Go: here.Go}
	// Nobody running is no failure here.
	_ = a.withClient(ctx, func(ctx context.Context, c *control.Client) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		res, err := c.Member.GetVersion(ctx, &controlpb.GetVersionRequest{})
		if err == nil {
			v.Running = &versionJSON{Version: res.GetVersion(), Commit: res.GetCommit(), Go: res.GetGoVersion()}
		}
		return err
	})
	if a.output == asJSON {
		return writeJSON(a.out, v)
	}
	_, err := fmt.Fprintf(a.out, "debughost %s\n", versionText(v))
	if r := v.Running; r != nil && (r.Version != v.Version || r.Commit != v.Commit) {
		a.note("the debughost that runs is another: %s", sane(versionText(*r)))
	}
	return err
}

func versionText(v versionJSON) string {
	if v.Commit == "" {
		return fmt.Sprintf("%s (%s)", v.Version, v.Go)
	}
	return fmt.Sprintf("%s (commit %s, %s)", v.Version, v.Commit, v.Go)
}
