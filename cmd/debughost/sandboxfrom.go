package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/cmd/debughost/internal/bundle"
	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// takeTime bounds one question for code or for states.
const takeTime = 20 * time.Second

// takeOptions say what is taken from a live node beside its code.
type takeOptions struct {
	states  []string // of these processes
	secrets bool     // what may be secret in the environment, too
}

func (a *app) sandboxFromCommand() *cobra.Command {
	f := &sandboxFlags{}
	var name string
	cmd := &cobra.Command{
		Use:   "from NODE [APP…]",
		Short: "Start a sandbox of the code and the environment of a live node",
		Long: `Start a sandbox with what a live node runs: the compiled modules of its own
applications, or of those that are named and those that they need, their environment
without what may be secret, and the state of the processes that --state names. What went
wrong there is tried again here, where it harms nobody.

The node is asked for one module after the other and goes on meanwhile. Its
applications' own ones are those that neither OTP, Elixir nor Mix bring along; the
sandbox runs on the OTP, and the Elixir, of the member. The environment leaves out values
as ` + "`debughost apps --env`" + ` does, and says which; --with-secrets takes them along. A state
is read by sys:get_state, and given to the process of that name when the sandbox is up.
Files in priv are not taken. The call is written to the audit log.`,
		Example: `  debughost sandbox from shop@db1
  debughost sandbox from shop@db1 shop --name bug7 --state Shop.Stock
  debughost sandbox from shop@db1 --with-secrets --memory 1GB`,
		Args:        someArgs("NODE"),
		Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return a.completeApp(cmd, args[:min(len(args), 1)], prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWait(cmd, f.wait); err != nil {
				return err
			}
			if name == "" {
				short, _, _ := strings.Cut(args[0], "@")
				name = short + "-copy"
			}
			spec, err := f.completeSpec(cmd, name, &controlpb.ChildSpec{}, map[string]any{})
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.createSandbox(ctx, c, spec, origin{node: args[0], apps: args[1:]}, f)
			})
		},
	}
	f.addRun(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "of the sandbox (default that of the node before @, with -copy)")
	fl.BoolVar(&f.secrets, "with-secrets", false, "take along what may be secret in the environment")
	return cmd
}

// takeCode makes a bundle of what a live node runs, and says what it is.
func (a *app) takeCode(ctx context.Context, c *control.Client, from origin, take takeOptions) (data []byte, note string, err error) {
	defer a.overwrite("")
	asking, cancel := a.within(ctx, takeTime)
	defer cancel()
	code, err := c.Systems.DescribeCode(asking, &controlpb.DescribeCodeRequest{
		Node: from.node, Applications: from.apps, Secrets: take.secrets, Timeout: a.targetTimeout(),
	})
	if err != nil {
		return nil, "", err
	}
	files := []bundle.File{{Name: "apps", Data: code.GetStart()}, {Name: "sys.config", Data: code.GetSysConfig()}}
	total, have := 0, 0
	for _, app := range code.GetApplications() {
		total += len(app.GetModules())
	}
	var what []string
	for _, app := range code.GetApplications() {
		dir := "lib/" + app.GetName() + "/ebin/"
		what = append(what, strings.TrimSpace(app.GetName()+" "+app.GetVersion()))
		files = append(files, bundle.File{Name: dir + app.GetName() + ".app", Data: app.GetAppFile()})
		for left := app.GetModules(); len(left) > 0; {
			got, err := a.readModules(ctx, c, code.GetNode(), left)
			if err != nil {
				return nil, "", err
			}
			for _, m := range got {
				files = append(files, bundle.File{Name: dir + m.GetModule() + ".beam", Data: m.GetCode()})
			}
			left, have = left[len(got):], have+len(got)
			a.overwrite(fmt.Sprintf("taking modules from %s: %d of %d", code.GetNode(), have, total))
		}
	}
	if len(take.states) > 0 {
		states, err := a.readStates(ctx, c, code.GetNode(), take.states)
		if err != nil {
			return nil, "", err
		}
		files = append(files, bundle.File{Name: "states.term", Data: states})
	}
	for _, f := range files {
		if !filepath.IsLocal(f.Name) || strings.Count(f.Name, "/") > 3 || strings.ContainsAny(f.Name, "\\\x00") {
			return nil, "", fmt.Errorf("take code from %s: an application or module is called %.80q, which is no name of a file", code.GetNode(), f.Name)
		}
	}
	a.tellLeftOut(code)
	data, err = packFiles(files)
	return data, code.GetNode() + ": " + strings.Join(what, ", "), err
}

func (a *app) readModules(ctx context.Context, c *control.Client, node string, modules []string) ([]*controlpb.ObjectCode, error) {
	ctx, cancel := a.within(ctx, takeTime)
	defer cancel()
	res, err := c.Systems.ReadModules(ctx, &controlpb.ReadModulesRequest{Node: node, Modules: modules, Timeout: a.targetTimeout()})
	switch {
	case err != nil:
		return nil, err
	case len(res.GetModules()) == 0 || len(res.GetModules()) > len(modules):
		return nil, fmt.Errorf("read modules of %s: %d of %d came", node, len(res.GetModules()), len(modules))
	}
	return res.GetModules(), nil
}

func (a *app) readStates(ctx context.Context, c *control.Client, node string, processes []string) ([]byte, error) {
	ctx, cancel := a.within(ctx, takeTime)
	defer cancel()
	res, err := c.Systems.ReadStates(ctx, &controlpb.ReadStatesRequest{Node: node, Processes: processes, Timeout: a.targetTimeout()})
	return res.GetStates(), err
}

// tellLeftOut says what is not in a sandbox's environment, and why.
func (a *app) tellLeftOut(code *controlpb.DescribeCodeResponse) {
	if why := code.GetNoEnvironment(); why != "" {
		a.note("the environment is not taken: %s", sane(why))
	}
	for _, app := range code.GetApplications() {
		if len(app.GetSecrets()) > 0 {
			a.note("left out of the environment of %s, since it may be secret: %s; --with-secrets takes it along", sane(app.GetName()), sane(strings.Join(app.GetSecrets(), ", ")))
		}
		if len(app.GetUnwritable()) > 0 {
			a.note("left out of the environment of %s, since it cannot be written down: %s", sane(app.GetName()), sane(strings.Join(app.GetUnwritable(), ", ")))
		}
	}
}
