package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// logJSON is an event of a node's log in JSON, one a line; its keys are a contract.
type logJSON struct {
	Time           time.Time      `json:"time"`
	Level          string         `json:"level"`
	Node           string         `json:"node"`
	Pid            string         `json:"pid"`
	RegisteredName string         `json:"registered_name,omitempty"`
	Application    string         `json:"application"`
	MFA            string         `json:"mfa"`
	File           string         `json:"file,omitempty"`
	Line           uint64         `json:"line,omitempty"`
	Message        string         `json:"message"`
	Report         *logReportJSON `json:"report,omitempty"`
}

// logReportJSON is an event that has a structure.
type logReportJSON struct {
	Kind        string            `json:"kind"`
	Name        string            `json:"name,omitempty"`
	Class       string            `json:"class,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Stack       []frameJSON       `json:"stack,omitempty"`
	State       string            `json:"state,omitempty"`
	LastMessage string            `json:"last_message,omitempty"`
	Ancestors   []string          `json:"ancestors,omitempty"`
	Child       string            `json:"child,omitempty"`
	ChildPid    string            `json:"child_pid,omitempty"`
	Fields      map[string]string `json:"fields,omitempty"`
}

// logDroppedJSON tells in JSON how many events were left out.
type logDroppedJSON struct {
	Node    string `json:"node"`
	Dropped uint64 `json:"dropped"`
}

func (a *app) logsCommand() *cobra.Command {
	req := &controlpb.FollowLogsRequest{}
	var since string
	var setLevel bool
	cmd := &cobra.Command{
		Use:   "logs [NODE…]",
		Short: "Follow what nodes log, and tell how their processes crashed",
		Long: `Follow the loggers of the nodes that are named, or of all, until Ctrl-C. Nodes that
are attached later join in. Each node sends at most --rate events a second; what is
left out is counted. Nothing is changed on a node but for a handler of its logger,
which is there while somebody follows: what the node's own level keeps back is not
heard, unless --set-level lowers that meanwhile; the node's own handlers then write
more, too.

Crash reports are shown with their reason, stack, last message and state. The last
ones of nodes that somebody followed are kept: without --follow these are told.`,
		Example: `  debughost logs -f shop@db1
  debughost logs -f --level error
  debughost logs -f --application shop --since 10m
  debughost logs -f shop@db1 --process My.Worker --level debug --set-level
  debughost logs -f -o json | jq 'select(.report.kind == "terminate") | .report.reason'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes = nodes
			if setLevel && !req.Follow {
				return usagef("logs: --set-level is for --follow")
			}
			if since != "" {
				t, err := parseSince(since, a.now())
				if err != nil {
					return err
				}
				req.Since = timestamppb.New(t)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				call := c.Logs.Follow
				if setLevel {
					call = c.Logs.FollowAtLevel
				}
				return a.logs(ctx, req, cmd.Flags().Changed("level"), func(ctx context.Context) (controlpb.Logs_FollowClient, error) { return call(ctx, req) })
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&req.Follow, "follow", "f", false, "go on with each event as it is logged")
	fl.StringVar(&req.Level, "level", "info", "least severe level: emergency, alert, critical, error, warning, notice, info, debug")
	fl.StringVar(&req.Application, "application", "", "only what the processes of this application log")
	fl.StringVar(&req.Process, "process", "", "only what this process logs: a pid or a registered name")
	fl.Uint32Var(&req.Rate, "rate", control.DefaultLogRate, "events a second of each node, at most 2000")
	fl.StringVar(&since, "since", "", "crash reports that are kept first, those since then: a span (10m) or a time (2026-01-31T15:04:05)")
	fl.BoolVar(&setLevel, "set-level", false, "lower the level of a node's logger to --level while this runs, and put it back")
	complete(cmd, "level", control.LogLevels()...)
	return cmd
}

func (a *app) logs(ctx context.Context, req *controlpb.FollowLogsRequest, explicit bool, call func(context.Context) (controlpb.Logs_FollowClient, error)) error {
	if !req.GetFollow() || a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = a.within(ctx, answerTime)
		defer cancel()
	}
	stream, err := call(ctx)
	if err != nil {
		return err
	}
	// Many events come at once, or none for an hour: what is written is flushed
	// when there is a pause.
	out := bufio.NewWriter(a.out)
	w := a.logWriter(out, req)
	shown, failed, noted := 0, 0, map[string]bool{}
	for {
		res, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return a.logsEnded(out, shown, failed)
		case err != nil && req.GetFollow() && isCanceled(err):
			return out.Flush() // Ctrl-C is how following ends
		case err != nil:
			return errors.Join(out.Flush(), err)
		}
		switch p := res.GetPart().(type) {
		case *controlpb.FollowLogsResponse_Event:
			shown++
			err = w.event(p.Event)
		case *controlpb.FollowLogsResponse_Dropped:
			err = w.dropped(p.Dropped)
		case *controlpb.FollowLogsResponse_Start:
			a.logStarted(p.Start, explicit, noted)
		case *controlpb.FollowLogsResponse_Error:
			failed++
			err = w.failed(p.Error)
		}
		if err == nil && req.GetFollow() {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
	}
}

func (a *app) logsEnded(out *bufio.Writer, shown, failed int) error {
	if err := out.Flush(); err != nil {
		return err
	}
	switch {
	case failed > 0 && shown > 0:
		return errPartial
	case failed > 0:
		return errPrinted
	case shown == 0 && a.output == table:
		a.note("no crash reports are kept: they are while somebody follows; `debughost logs -f` does")
	}
	return nil
}

// logStarted tells what is to be known of a node that is followed. That a logger
// keeps back what nobody has asked for by --level is told once for each level.
func (a *app) logStarted(s *controlpb.LogStart, explicit bool, noted map[string]bool) {
	if s.GetNote() != "" && !noted[s.GetPrimaryLevel()] {
		a.note("%s", sane(s.GetNote()))
		noted[s.GetPrimaryLevel()] = !explicit
	}
	if s.GetLowered() {
		a.note("the log level of %s is %s while it is followed", sane(s.GetNode()), sane(s.GetPrimaryLevel()))
	}
}

// logWriter writes what a call tells in one format.
type logWriter struct {
	event   func(*controlpb.LogEvent) error
	dropped func(*controlpb.LogDropped) error
	failed  func(*controlpb.NodeError) error
}

func (a *app) logWriter(w io.Writer, req *controlpb.FollowLogsRequest) logWriter {
	aside := logWriter{
		dropped: func(d *controlpb.LogDropped) error {
			a.note("%s: %d events were left out, of more than %d a second: --rate shows more", sane(d.GetNode()), d.GetCount(), req.GetRate())
			return nil
		},
		failed: func(e *controlpb.NodeError) error {
			a.printNodeErrors(nodeErrorRows([]*controlpb.NodeError{e}))
			return nil
		},
	}
	switch a.output {
	case asJSON:
		enc := newEncoder(w)
		return logWriter{
			event:   func(e *controlpb.LogEvent) error { return enc.Encode(logRow(e)) },
			dropped: func(d *controlpb.LogDropped) error { return enc.Encode(logDroppedJSON{d.GetNode(), d.GetCount()}) },
			failed:  func(e *controlpb.NodeError) error { return enc.Encode(nodeErrorRows([]*controlpb.NodeError{e})[0]) },
		}
	case asCSV:
		out := csv.NewWriter(w)
		header := false
		aside.event = func(e *controlpb.LogEvent) error {
			if !header {
				header = true
				if err := out.Write([]string{"time", "level", "node", "pid", "registered_name", "application", "mfa", "message"}); err != nil {
					return err
				}
			}
			r := logRow(e)
			err := out.Write(a.csvCells([]string{
				r.Time.Format(time.RFC3339Nano), r.Level, r.Node, r.Pid, r.RegisteredName, r.Application, r.MFA, r.Message,
			}))
			out.Flush()
			return errors.Join(err, out.Error())
		}
		return aside
	}
	aside.event = func(e *controlpb.LogEvent) error { return a.printLog(w, e) }
	return aside
}

func logRow(e *controlpb.LogEvent) logJSON {
	out := logJSON{
		Time: e.GetTime().AsTime(), Level: e.GetLevel(), Node: e.GetNode(), Pid: e.GetPid(), RegisteredName: e.GetRegisteredName(),
		Application: e.GetApplication(), MFA: e.GetMfa(), File: e.GetFile(), Line: e.GetLine(), Message: e.GetMessage(),
	}
	r := e.GetReport()
	if r == nil {
		return out
	}
	out.Report = &logReportJSON{
		Kind: r.GetKind(), Name: r.GetName(), Class: r.GetClass(), Reason: r.GetReason(), State: r.GetState(),
		LastMessage: r.GetLastMessage(), Ancestors: r.GetAncestors(), Child: r.GetChild(), ChildPid: r.GetChildPid(),
	}
	for _, f := range r.GetStack() {
		out.Report.Stack = append(out.Report.Stack, frameJSON{f.GetFunction(), f.GetFile(), f.GetLine()})
	}
	for _, f := range r.GetFields() {
		if out.Report.Fields == nil {
			out.Report.Fields = map[string]string{}
		}
		out.Report.Fields[f.GetKey()] = f.GetValue()
	}
	return out
}
