package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) registryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Register, look up and watch the names that the members share",
		Long: `The registry is a map from keys to values and owners that all members share. An
entry lives as long as its owner: a process of a node, a lease that is renewed, or
a member. Each member reads its own copy.`,
		Example: `  debughost registry register leader --value '{"zone":"a"}'
  debughost registry lookup leader
  debughost registry list shop/
  debughost registry watch -o json`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.registerCommand(), a.lookupCommand(), a.listEntriesCommand(), a.unregisterCommand(),
		a.updateCommand(), a.renewCommand(), a.watchEntriesCommand())
	return cmd
}

// jsonValue checks a value of the command line, and writes it without spaces.
func jsonValue(cmd, flag, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		return nil, usagef("%s: --%s is not JSON: %v (text is written '\"text\"')", cmd, flag, err)
	}
	return out.Bytes(), nil
}

// selectFlags adds the flags that say whose entry is meant.
func (a *app) selectFlags(cmd *cobra.Command, s *controlpb.EntrySelector) {
	fl := cmd.Flags()
	fl.StringVar(&s.Node, "node", "", "only what processes of this node own")
	fl.StringVar(&s.Pid, "pid", "", "only what this process owns")
	fl.StringVar(&s.Lease, "lease", "", "only what lives by this lease")
	fl.StringVar(&s.Member, "member", "", "only what this member owns")
	_ = cmd.RegisterFlagCompletionFunc("node", a.completeNodes(-1))
	_ = cmd.RegisterFlagCompletionFunc("member", forFlag(a.completeMembers))
}

func (a *app) registerCommand() *cobra.Command {
	req := &controlpb.RegisterRequest{}
	var value string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "register KEY",
		Short: "Claim a key, for a process, a lease or the member",
		Long: `Claim a key. It is unique, unless --duplicate: what somebody else has is refused,
and the answer says who has it.

With --node and --pid the entry goes when that process ends; with --ttl when it is
not renewed in time (debughost registry renew LEASE); else when the member ends.

Two members that do not see each other may both give a key away; when they meet,
the older claim stays and the other is told. --consistency quorum answers only once
a majority of the members has the claim, and refuses where there is none, unless
--force is given, which is written to the audit log.`,
		Example: `  debughost registry register leader --value '{"zone":"a"}'
  debughost registry register orders --node shop@db1 --pid '<0.123.0>'
  debughost registry register deploy --ttl 30s --consistency quorum
  debughost registry register workers --duplicate --node shop@db1 --pid 0.124.0`,
		Args:        exactArgs("KEY"),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			req.Key = args[0]
			if req.Value, err = jsonValue("register", "value", value); err != nil {
				return err
			}
			switch {
			case req.GetConsistency() != "local" && req.GetConsistency() != "quorum":
				return usagef("register: consistency %q is none of local, quorum", req.GetConsistency())
			case (req.GetNode() == "") != (req.GetPid() == ""):
				return usagef("register: a process is named by --node and --pid together")
			case ttl != 0 && req.GetNode() != "":
				return usagef("register: --ttl is for a lease, and a process has none")
			case ttl < 0 || ttl > control.MaxTTL:
				return usagef("register: ttl %v is not between 0 and %v", ttl, control.MaxTTL)
			case req.GetLease() != "" && ttl == 0:
				return usagef("register: a lease needs a --ttl")
			case ttl > 0:
				req.Ttl = durationpb.New(ttl)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Registry.Register(ctx, req)
				if err != nil {
					return err
				}
				return a.registered("registered", res.GetEntry())
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Node, "node", "", "node of the process that owns the key")
	fl.StringVar(&req.Pid, "pid", "", "process that owns the key: a pid or a registered name")
	fl.StringVar(&value, "value", "", "what is registered under the key, in JSON")
	fl.DurationVar(&ttl, "ttl", 0, "how long the entry lives without being renewed")
	fl.StringVar(&req.Lease, "lease", "", "name of the lease, for several keys under one (default a new one)")
	fl.BoolVar(&req.Duplicate, "duplicate", false, "many owners may have the key")
	fl.StringVar(&req.Consistency, "consistency", "local", "local, or quorum: answer once a majority has the claim")
	fl.BoolVar(&req.Force, "force", false, "register without a quorum where one is asked for")
	complete(cmd, "consistency", "local", "quorum")
	_ = cmd.RegisterFlagCompletionFunc("node", a.completeNodes(-1))
	return cmd
}

// registered tells of one entry that was written.
func (a *app) registered(what string, e *controlpb.RegistryEntry) error {
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"entry": entryRow(e)})
	}
	_, err := fmt.Fprintf(a.out, "%s %s for %s, at %s\n", what, sane(e.GetKey()), sane(ownerText(e.GetOwner())), sane(e.GetOrigin()))
	if e.GetTtl() != nil && what == "registered" {
		a.note("it goes in %v unless it is renewed: debughost registry renew %s", e.GetTtl().AsDuration(), shellWord(e.GetOwner().GetLease()))
	}
	return err
}

func (a *app) unregisterCommand() *cobra.Command {
	req := &controlpb.UnregisterRequest{Owner: &controlpb.EntrySelector{}}
	cmd := &cobra.Command{
		Use:   "unregister KEY",
		Short: "Take a key away from its owner, or from all of them",
		Example: `  debughost registry unregister leader
  debughost registry unregister workers --node shop@db1`,
		Args:              exactArgs("KEY"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Key = args[0]
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Registry.Unregister(ctx, req)
				if err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"removed": res.GetRemoved()})
				}
				_, err = fmt.Fprintf(a.out, "unregistered %s (%d)\n", sane(req.GetKey()), res.GetRemoved())
				return err
			})
		},
	}
	a.selectFlags(cmd, req.Owner)
	return cmd
}

func (a *app) updateCommand() *cobra.Command {
	req := &controlpb.UpdateRequest{Owner: &controlpb.EntrySelector{}}
	var value, expected string
	cmd := &cobra.Command{
		Use:   "update KEY --value JSON",
		Short: "Change the value of a key, if it is the expected one",
		Example: `  debughost registry update leader --value '{"zone":"b"}'
  debughost registry update counter --value 2 --if 1`,
		Args:              exactArgs("KEY"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			req.Key = args[0]
			if !cmd.Flags().Changed("value") {
				return usagef("update: --value is missing")
			}
			if req.Value, err = jsonValue("update", "value", value); err != nil {
				return err
			}
			if cmd.Flags().Changed("if") {
				if req.Expected, err = jsonValue("update", "if", expected); err != nil {
					return err
				}
				if req.Expected == nil {
					req.Expected = []byte{} // no value
				}
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Registry.Update(ctx, req)
				if err != nil {
					return err
				}
				return a.registered("updated", res.GetEntry())
			})
		},
	}
	cmd.Flags().StringVar(&value, "value", "", "the new value, in JSON; empty: none")
	cmd.Flags().StringVar(&expected, "if", "", "only if this is the value now, as `lookup` prints it")
	a.selectFlags(cmd, req.Owner)
	return cmd
}

func (a *app) renewCommand() *cobra.Command {
	req := &controlpb.RenewRequest{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "renew LEASE",
		Short: "Begin the time of a lease anew",
		Example: `  debughost registry renew 4f1c0a9be07d2f35
  debughost registry renew deploy-17 --ttl 5m`,
		Args:        exactArgs("LEASE"),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Lease = args[0]
			switch {
			case ttl < 0 || ttl > control.MaxTTL:
				return usagef("renew: ttl %v is not between 0 and %v", ttl, control.MaxTTL)
			case ttl > 0:
				req.Ttl = durationpb.New(ttl)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Registry.Renew(ctx, req)
				if err != nil {
					return err
				}
				if a.output == asJSON {
					return writeJSON(a.out, map[string]any{"lease": req.GetLease(), "entries": res.GetEntries()})
				}
				_, err = fmt.Fprintf(a.out, "renewed %s (%d)\n", sane(req.GetLease()), res.GetEntries())
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "another time to live (default as before)")
	return cmd
}
