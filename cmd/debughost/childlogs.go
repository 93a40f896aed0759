package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// childLineJSON is a line that a child printed, in JSON; its keys are a contract.
type childLineJSON struct {
	Time   *time.Time `json:"time"`
	Stream string     `json:"stream"`
	Member string     `json:"member"`
	Line   string     `json:"line"`
}

func (a *app) childLogsCommand() *cobra.Command {
	req := &controlpb.ReadChildLogRequest{}
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show what a child printed, and follow it",
		Long: `Show what a child printed, of both streams in their order. The log is bounded: the
oldest lines go first. Of a child whose start has failed it is what was said of that, a
compiler's output included. With --follow it goes on until Ctrl-C, also when the child is
started again or moves to another member, whose log begins anew.`,
		Example: `  debughost child logs web --tail 100
  debughost child logs -f web
  debughost child logs -f web -o json | jq -r 'select(.stream == "stderr") | .line'`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeChildren,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Id = args[0]
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.childLogs(ctx, c, req)
			})
		},
	}
	cmd.Flags().BoolVarP(&req.Follow, "follow", "f", false, "go on with what it prints from now on")
	cmd.Flags().Uint32Var(&req.Tail, "tail", 0, "begin with so many lines from the end (default all)")
	return cmd
}

func (a *app) childLogs(ctx context.Context, c *control.Client, req *controlpb.ReadChildLogRequest) error {
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = a.within(ctx, answerTime)
		defer cancel()
	}
	stream, err := c.Children.ReadChildLog(ctx, req)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.out)
	write := a.childLineWriter(out)
	for {
		res, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), err != nil && req.GetFollow() && isCanceled(err): // Ctrl-C is how following ends
			return out.Flush()
		case err != nil:
			return errors.Join(out.Flush(), err)
		}
		for _, line := range res.GetLines() {
			if line.GetStream() == "member" {
				if err := out.Flush(); err != nil {
					return err
				}
				a.note("child %s is on %s now", sane(req.GetId()), sane(line.GetMember()))
				continue
			}
			if err := write(line); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// childLineWriter writes lines in the format that is asked for. In a file they are as
// the child printed them; on a terminal they must be harmless.
func (a *app) childLineWriter(w *bufio.Writer) func(*controlpb.ChildLogLine) error {
	switch a.output {
	case asJSON:
		var enc *json.Encoder = newEncoder(w)
		return func(l *controlpb.ChildLogLine) error {
			return enc.Encode(childLineJSON{timeRow(l.GetTime()), l.GetStream(), l.GetMember(), strings.ToValidUTF8(string(l.GetLine()), "\uFFFD")})
		}
	case asCSV:
		out, header := csv.NewWriter(w), false
		return func(l *controlpb.ChildLogLine) error {
			if !header {
				header = true
				if err := out.Write([]string{"time", "stream", "member", "line"}); err != nil {
					return err
				}
			}
			err := out.Write(a.csvCells([]string{timeCell(timeRow(l.GetTime())), l.GetStream(), l.GetMember(), string(l.GetLine())}))
			out.Flush()
			return errors.Join(err, out.Error())
		}
	}
	return func(l *controlpb.ChildLogLine) error {
		line := l.GetLine()
		if a.outTTY {
			line = []byte(sane(string(line)))
		}
		_, err := w.Write(append(line, '\n'))
		return err
	}
}
