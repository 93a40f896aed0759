package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost"
	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, print or reload the configuration",
		Example: `  debughost config print > config.toml
  debughost config check config.toml
  debughost config reload`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configCheckCommand(), a.configPrintCommand(), a.configReloadCommand())
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Tell every problem of a configuration at once, each with its key",
		Long: `Read a configuration as ` + "`debughost run`" + ` would, with the environment over it, and
tell every problem at once. Without FILE it is the one that run would read.`,
		Example: `  debughost config check /etc/debughost/config.toml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s: one argument too many: %q", cmd.Name(), args[1])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			src := config.Sources{}
			if len(args) > 0 {
				src.File = args[0]
			}
			cfg, err := config.Load(src)
			if err != nil {
				return err
			}
			file := cfg.File
			if file == "" {
				file = "the built-in configuration"
			}
			_, err = fmt.Fprintf(a.out, "%s is in order\n", sane(file))
			return err
		},
	}
}

func (a *app) configPrintCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "print",
		Short:   "Print the commented reference configuration, which is also the default one",
		Example: `  debughost config print > config.toml`,
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.out, debughost.ReferenceConfig)
			return err
		},
	}
}

func (a *app) configReloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the running debughost read its configuration again, as SIGHUP does",
		Long: `Have the running debughost read its configuration again, as SIGHUP does, and wait
until it is in force. Where it has problems they are told, and the old one stays.`,
		Example: `  debughost config reload`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, 3*answerTime) // strategies are swapped
				defer cancel()
				if _, err := c.Member.ReloadConfig(ctx, &controlpb.ReloadConfigRequest{}); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.out, "configuration reloaded")
				return err
			})
		},
	}
}
