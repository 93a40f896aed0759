package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/doctor"
)

// checkJSON is a check of doctor in JSON; its keys are a contract.
type checkJSON struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warn, fail
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

func (a *app) doctorCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what usually goes wrong, with debughost running or not",
		Long: `Check what usually keeps debughost from working, on this machine: the configuration,
cookies, this host's name, the EPMDs that are asked, plugins, ports, the data
directory, the cluster key and the files of the service; and, where debughost
runs, its plugins, targets, members and their clocks.

Nothing is changed. Run it as the user that debughost runs as. The exit code is 1
where a check fails.`,
		Example: `  debughost doctor
  debughost doctor --config /etc/debughost/config.toml
  debughost doctor -o json | jq '.checks[] | select(.state != "ok")'`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			return a.doctor(cmd.Context(), doctor.Options{Sources: config.Sources{File: file}, DataDir: dir})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (env DEBUGHOST_CONFIG; default /etc/debughost/config.toml if it exists)")
	_ = cmd.MarkFlagFilename("config", "toml")
	return cmd
}

// doctor asks the member first: what is right on its machine depends on
// whether it runs.
func (a *app) doctor(ctx context.Context, o doctor.Options) error {
	var live []doctor.Check
	if cfg, err := config.Load(o.Sources); err == nil && a.givenAddress() == "" {
		a.addr = cfg.API.Socket // may be empty: where it is without a configuration
	}
	err := a.withClient(ctx, func(ctx context.Context, c *control.Client) error {
		o.Running = true
		var err error
		live, err = a.examineMember(ctx, c)
		return err
	})
	var fail *control.Error
	switch {
	case errors.As(err, &fail) && fail.Code == control.NotRunning:
		live = append(live, doctor.Check{Name: "member", State: doctor.Warn, Detail: fail.Error(), Hint: fail.Hint})
	case errors.As(err, &fail) && fail.Code == control.BadRequest:
		return err // of --addr
	case err != nil:
		live = append(live, doctor.Check{Name: "member", State: doctor.Fail, Detail: err.Error()})
		if fail != nil {
			live[len(live)-1].Hint = fail.Hint
		}
	}
	return a.printChecks(append(doctor.Examine(ctx, o), live...))
}

func (a *app) printChecks(checks []doctor.Check) error {
	bad := 0
	for _, c := range checks {
		if c.State == doctor.Fail {
			bad++
		}
	}
	var err error
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("checks")
		for _, c := range checks {
			if err := l.item(checkJSON{c.Name, string(c.State), c.Detail, c.Hint}); err != nil {
				return err
			}
		}
		err = l.close()
	case asCSV:
		err = a.writeCSV([]string{"name", "state", "detail", "hint"}, func(write func(...string) error) error {
			for _, c := range checks {
				if err := write(c.Name, string(c.State), c.Detail, c.Hint); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		g := newGrid(column{name: "state"}, column{name: "check"}, column{name: "detail", free: true})
		for _, c := range checks {
			g.add(string(c.State), c.Name, c.Detail)
			if c.State == doctor.Fail {
				g.highlight(0)
			}
			if c.Hint != "" && c.State != doctor.OK {
				g.add("", "", "→ "+c.Hint)
			}
		}
		err = g.write(a.out, a.width(), a.colors())
	}
	if err == nil && bad > 0 {
		err = errPrinted
	}
	return err
}
