package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// eventJSON is an event in JSON, one a line; its keys are a contract.
type eventJSON struct {
	Time     time.Time         `json:"time"`
	Type     string            `json:"type"`
	Node     string            `json:"node"`
	Member   string            `json:"member,omitempty"`
	Plugin   string            `json:"plugin,omitempty"`
	Topology string            `json:"topology,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Fields   map[string]string `json:"fields,omitempty"`
	Seq      uint64            `json:"seq"`
}

func (a *app) eventsCommand() *cobra.Command {
	req := &controlpb.WatchEventsRequest{}
	var since string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Tell what happened: targets found, attached and lost, members gone, plugins failing, processes killed",
		Long: `Tell what happened, oldest first; with --follow go on with each event as it happens,
until Ctrl-C. debughost remembers the last events of a day; each member knows those
of the whole cluster. With -o json each event
is a JSON object on a line of its own.`,
		Example: `  debughost events --since 10m
  debughost events --follow --type target_attached --type target_lost
  debughost events -f -o json | jq .node`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since != "" {
				t, err := parseSince(since, a.now())
				if err != nil {
					return err
				}
				req.Since = timestamppb.New(t)
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.events(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&req.Follow, "follow", "f", false, "go on with each event as it happens")
	fl.StringVar(&since, "since", "", "only what happened since: a span (10m) or a time (2026-01-31T15:04:05)")
	fl.StringSliceVar(&req.Types, "type", nil, "only events of this type; may be repeated")
	complete(cmd, "type", control.EventTypes()...)
	return cmd
}

// parseSince reads a span before now, or a time; without a zone it is local.
func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("since %q is neither a span (10m, 2h) nor a time (2026-01-31T15:04:05)", s)
}

func (a *app) events(ctx context.Context, c *control.Client, req *controlpb.WatchEventsRequest) error {
	if !req.GetFollow() || a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = a.within(ctx, answerTime)
		defer cancel()
	}
	asked := ""
	if a.output == table { // not worth an error
		st, _ := c.Member.GetStatus(ctx, &controlpb.GetStatusRequest{Local: true})
		asked = st.GetMember()
	}
	stream, err := c.Events.WatchEvents(ctx, req)
	if err != nil {
		return err
	}
	// What is there comes in bursts, so that writing is buffered; an event that
	// just happened must be seen at once.
	out := bufio.NewWriter(a.out)
	write := a.eventWriter(out, asked)
	for {
		e, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out.Flush()
		case err != nil && req.GetFollow() && isCanceled(err):
			return out.Flush() // Ctrl-C is how following ends
		case err != nil:
			return errors.Join(out.Flush(), err)
		}
		if err := write(e); err != nil {
			return err
		}
		if req.GetFollow() {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

func (a *app) eventWriter(w io.Writer, asked string) func(*controlpb.Event) error {
	switch a.output {
	case asJSON:
		enc := newEncoder(w)
		return func(e *controlpb.Event) error { return enc.Encode(eventRow(e)) }
	case asCSV:
		out := csv.NewWriter(w)
		header := false
		return func(e *controlpb.Event) error {
			if !header {
				header = true
				if err := out.Write([]string{"time", "type", "node", "member", "plugin", "topology", "reason", "seq"}); err != nil {
					return err
				}
			}
			r := eventRow(e)
			err := out.Write(a.csvCells([]string{
				r.Time.Format(time.RFC3339Nano), r.Type, r.Node, r.Member, r.Plugin, r.Topology, r.Reason, decimal(r.Seq),
			}))
			out.Flush()
			return errors.Join(err, out.Error())
		}
	}
	return func(e *controlpb.Event) error {
		_, err := fmt.Fprintln(w, a.eventLine(e, asked))
		return err
	}
}

func eventRow(e *controlpb.Event) eventJSON {
	return eventJSON{
		Time: e.GetTime().AsTime(), Type: e.GetType(), Node: e.GetNode(), Member: e.GetMember(),
		Plugin: e.GetPlugin(), Topology: e.GetTopology(), Reason: e.GetReason(), Fields: e.GetFields(), Seq: e.GetSeq(),
	}
}

// aboutFields are the fields that tell, beside the node, what an event is about.
var aboutFields = []string{"member", "key"}

// eventLine is an event for a person, in their time zone. Who asks asked is not
// told that this one saw it.
func (a *app) eventLine(e *controlpb.Event, asked string) string {
	when := e.GetTime().AsTime().In(a.now().Location()).Format("2006-01-02 15:04:05.000")
	var about []string
	say := func(s string) {
		if s != "" {
			about = append(about, s)
		}
	}
	say(e.GetNode())
	say(e.GetPlugin())
	say(e.GetTopology())
	for _, k := range aboutFields {
		say(e.GetFields()[k])
	}
	text := strings.Join(about, " ")
	switch {
	case text == "":
		text = e.GetReason()
	case e.GetReason() != "":
		text += ": " + e.GetReason()
	}
	line := fmt.Sprintf("%s  %-18s  %s", when, e.GetType(), text)
	for _, k := range slices.Sorted(maps.Keys(e.GetFields())) {
		if !slices.Contains(aboutFields, k) {
			line += fmt.Sprintf(" %s=%s", k, e.GetFields()[k])
		}
	}
	if asked != "" && e.GetMember() != asked {
		line += " (at " + e.GetMember() + ")"
	}
	return sane(strings.TrimRight(line, " "))
}
