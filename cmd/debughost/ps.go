package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// psFlags are the flags of ps.
type psFlags struct {
	sort, filter, function, application string
	window, watch                       time.Duration
	limit, offset                       uint32
}

func (a *app) psCommand() *cobra.Command {
	f := &psFlags{}
	cmd := &cobra.Command{
		Use:   "ps [NODE…]",
		Short: "Rank the processes of all nodes, or of those named",
		Long: `Rank the processes of all attached nodes, or of those named, highest first.
A node is named in full (shop@db1) or by the part before the @.

The columns have OTP's names. The work is done on the nodes; only the rows asked
for travel. A node that does not answer costs its own rows only: they are missing,
its error is told, and the exit code is 3.`,
		Example: `  debughost ps                                    # the 20 largest by memory
  debughost ps --sort message_queue_len           # who does not keep up
  debughost ps --sort reductions --window 1s      # who is busy right now
  debughost ps shop@db1 --filter Cart --limit 0   # every process with Cart in a name
  debughost ps --application ecto --watch 2s      # look again every 2 seconds
  debughost ps --limit 0 -o csv > processes.csv`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req, err := f.request(nodes)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if f.watch > 0 {
					return a.watchProcesses(ctx, c, req, f)
				}
				return a.ps(ctx, c, req, f)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.sort, "sort", "s", "memory", "rank by memory, reductions or message_queue_len")
	fl.DurationVar(&f.window, "window", 0, "rank by growth a second, measured over this time")
	fl.StringVarP(&f.filter, "filter", "f", "", "only processes with this text in their name, label, function or pid")
	fl.StringVar(&f.function, "function", "", "only processes with this text in their current or initial function (mod:fun/arity)")
	fl.StringVar(&f.application, "application", "", "only processes of this OTP application")
	fl.Uint32VarP(&f.limit, "limit", "n", 20, "how many rows; 0 means all")
	fl.Uint32Var(&f.offset, "offset", 0, "how many rows of the ranking to skip")
	fl.DurationVarP(&f.watch, "watch", "w", 0, "ask again and again, with this pause")
	complete(cmd, "sort", "memory", "reductions", "message_queue_len")
	return cmd
}

func (f *psFlags) request(nodes []string) (*controlpb.ListProcessesRequest, error) {
	switch f.sort {
	case "memory", "reductions", "message_queue_len":
	default:
		return nil, usagef("ps: sort %q is none of memory, reductions, message_queue_len", f.sort)
	}
	switch {
	case f.window < 0 || f.window > control.MaxWindow:
		return nil, usagef("ps: window %v is not between 0 and %v", f.window, control.MaxWindow)
	case f.watch < 0:
		return nil, usagef("ps: watch %v is negative", f.watch)
	case f.offset > 0 && f.limit == 0:
		return nil, usagef("ps: --offset needs a --limit")
	case f.window > 0 && f.limit == 0:
		return nil, usagef("ps: --window needs a --limit: growth is ranked on the nodes")
	}
	req := &controlpb.ListProcessesRequest{
		Nodes: nodes, Sort: f.sort, Filter: f.filter, Function: f.function,
		Application: f.application, Limit: f.limit, Offset: f.offset,
	}
	if f.window > 0 {
		req.Window = durationpb.New(f.window)
	}
	return req, nil
}

// ps asks once and prints.
func (a *app) ps(ctx context.Context, c *control.Client, req *controlpb.ListProcessesRequest, f *psFlags) error {
	req.Timeout = a.targetTimeout()
	usual := time.Duration(0)
	if a.timeout > 0 {
		usual = a.timeout + f.window
	}
	// Without --timeout the member's own limit for each target holds. A long
	// table may take its time after that: what flows is not late.
	if f.limit > 0 {
		var cancel context.CancelFunc
		if usual == 0 {
			usual = answerTime + f.window
		}
		ctx, cancel = context.WithTimeout(ctx, usual+grace)
		defer cancel()
	}
	r, err := a.collect(ctx, c, req)
	if err != nil {
		return err
	}
	if f.limit == 0 {
		r.sort(f.sort)
	}
	return a.printRanking(r, f)
}

// watchProcesses asks again and again until Ctrl-C, which is its good end. On
// a terminal each answer takes the place of the one before.
func (a *app) watchProcesses(ctx context.Context, c *control.Client, req *controlpb.ListProcessesRequest, f *psFlags) error {
	tick := time.NewTicker(f.watch)
	defer tick.Stop()
	screen, screenErr, tty := a.out, a.err, a.errTTY
	defer func() { a.out, a.err, a.errTTY = screen, screenErr, tty }()
	a.errTTY = false // no progress: there is the last answer to look at
	for n := 0; ; n++ {
		// The old answer stays in view until the new one is complete.
		var out, errs bytes.Buffer
		a.out, a.err = &out, &errs
		err := a.ps(ctx, c, req, f)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, errPartial) && !errors.Is(err, errPrinted):
			return err // the member is out of reach; failing targets may come back
		}
		before := ""
		switch {
		case a.outTTY:
			before = "\x1b[H\x1b[2J"
		case n > 0 && a.output == table:
			before = "\n"
		}
		if _, err := fmt.Fprintf(screen, "%s%s", before, &out); err != nil {
			return err
		}
		if _, err := screenErr.Write(errs.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
