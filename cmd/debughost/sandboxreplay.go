package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
)

const (
	// maxMessages bounds a file of messages, in bytes.
	maxMessages = 64 << 20
	// messageBatch is how much is delivered at once, in bytes.
	messageBatch = 1 << 20
	// messagesAtOnce are delivered at once.
	messagesAtOnce = 10_000
)

// skippedJSON is a message that was not delivered.
type skippedJSON struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

type replayJSON struct {
	Sandbox   string        `json:"sandbox"`
	Process   string        `json:"process"`
	Delivered int           `json:"delivered"`
	Skipped   []skippedJSON `json:"skipped"`
	Replaced  []string      `json:"replaced"` // pids and references of the other node, which stand for nobody now
}

func (a *app) replayCommand() *cobra.Command {
	var to, syntax string
	var pids []string
	cmd := &cobra.Command{
		Use:   "replay NAME MESSAGES.json --to PROCESS",
		Short: "Send messages of a live node's mailbox to a process of a sandbox",
		Long: `Send a process of a sandbox the messages that wait, or waited, for one of a live node,
oldest first. The file is what ` + "`debughost inspect --messages N -o json`" + ` prints, or a JSON list of
terms as texts; - is the standard input. What was cut or cannot be read is skipped, and
told. Pids and references in messages are of another node, and stand for nobody here,
unless --map says for whom. The call is written to the audit log, without the messages.`,
		Example: `  debughost inspect shop@db1 Shop.Stock --messages 1000 --max-bytes 65536 -o json > messages.json
  debughost sandbox replay bug7 messages.json --to Shop.Stock
  debughost sandbox replay bug7 messages.json --to Shop.Stock --map '<0.312.0>=Shop.Cart'`,
		Args: exactArgs("NAME", "MESSAGES.json"), Annotations: map[string]string{noCSV: "yes"},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []cobra.Completion{"json"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return a.completeSandboxes(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usagef("replay: --to is missing: the process that the messages are for")
			}
			who, err := pairs(pids)
			if err != nil {
				return usagef("replay: map %v", err)
			}
			if err := checkSyntax(cmd, syntax); err != nil {
				return err
			}
			in := delivery{Process: to, Map: who}
			if syntax != "auto" {
				in.Syntax = syntax
			}
			out := replayJSON{Sandbox: args[0], Process: to, Skipped: []skippedJSON{}, Replaced: []string{}}
			messages, err := a.readMessages(args[1], &out)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				if _, err := a.findSandbox(ctx, c, args[0]); err != nil {
					return err
				}
				return a.replay(ctx, c, messages, in, &out)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&to, "to", "", "registered name or pid of the process that gets them")
	fl.StringArrayVar(&pids, "map", nil, "PID=PROCESS: who is to stand in messages for a pid of the other node; may be repeated")
	fl.StringVar(&syntax, "syntax", "auto", "of the messages: auto, erlang or elixir")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

// delivery is the input of the operation deliver.
type delivery struct {
	Process  string            `json:"process"`
	Messages []string          `json:"messages"`
	Syntax   string            `json:"syntax,omitempty"`
	Map      map[string]string `json:"map,omitempty"`
}

// readMessages reads a file that may be anything. What was cut is skipped.
func (a *app) readMessages(file string, out *replayJSON) ([]string, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxMessages+1))
	if err == nil && len(data) > maxMessages {
		err = fmt.Errorf("it has more than %s", size(maxMessages))
	}
	if err != nil {
		return nil, fmt.Errorf("replay: read %s: %w", file, err)
	}
	var list []string
	if json.Unmarshal(data, &list) == nil {
		return list, nil
	}
	var inspected struct {
		Process *struct {
			Messages []entryJSON `json:"messages"`
		} `json:"process"`
	}
	if err := json.Unmarshal(data, &inspected); err != nil || inspected.Process == nil {
		if err == nil {
			err = errors.New("there is no process in it")
		}
		return nil, &hintedError{fmt.Errorf("replay: read %s: these are no messages: %w", file, err), "`debughost inspect NODE PROCESS --messages 100 -o json` prints some"}
	}
	for _, m := range inspected.Process.Messages {
		if m.Truncated {
			out.Skipped = append(out.Skipped, skippedJSON{m.Value, "it was cut when it was taken; inspect --max-bytes takes more"})
			continue
		}
		list = append(list, m.Value)
	}
	return list, nil
}

func (a *app) replay(ctx context.Context, c *control.Client, messages []string, in delivery, out *replayJSON) error {
	for len(messages) > 0 {
		n, bytes := 0, 0
		for n < min(len(messages), messagesAtOnce) && (n == 0 || bytes+len(messages[n]) <= messageBatch) {
			bytes += len(messages[n]) + 4
			n++
		}
		in.Messages = messages[:n]
		var done replayJSON
		if err := a.operate(ctx, c, out.Sandbox, "deliver", in, &done); err != nil {
			if out.Delivered > 0 {
				a.note("%s were delivered before that", plural(uint64(out.Delivered), "message"))
			}
			return err
		}
		out.Delivered += done.Delivered
		out.Skipped = append(out.Skipped, done.Skipped...)
		out.Replaced = append(out.Replaced, done.Replaced...)
		messages = messages[n:]
	}
	if a.output == asJSON {
		if err := writeJSON(a.out, map[string]any{"replay": out}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "%s delivered to %s in %s\n", plural(uint64(out.Delivered), "message"), sane(out.Process), sane(out.Sandbox))
		for _, s := range out.Skipped {
			a.note("skipped %s: %s", sane(cutEnd(s.Message, 100)), sane(s.Reason))
		}
	}
	if n := len(out.Replaced); n > 0 && a.output != asJSON {
		shown := out.Replaced[:min(n, 5)]
		a.note("of the other node, and nobody here: %s%s; --map says who stands for a pid", sane(strings.Join(shown, ", ")), map[bool]string{true: ", …"}[n > len(shown)])
	}
	switch {
	case len(out.Skipped) == 0:
		return nil
	case out.Delivered == 0:
		return errPrinted
	}
	return errPartial
}
