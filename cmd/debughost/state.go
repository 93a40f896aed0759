package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) stateCommand() *cobra.Command {
	req := &controlpb.GetStateRequest{}
	cmd := &cobra.Command{
		Use:   "state NODE PID|NAME [PATH]",
		Short: "Show the state of an OTP process as a tree with sizes, or a part of it",
		Long: `Show the state of a process that knows OTP's system messages: a gen_server,
gen_statem, gen_event or supervisor, a GenServer, Agent, DynamicSupervisor, LiveView
and the like. It is asked through sys, and what it answers is cut on its node, so
that also of a large state only what is shown comes over the wire. A process that
does not look as if it knew such messages is not asked, unless --force says so, and
one of more than 64 MB neither: to tell its state, it must copy it.

Sizes are bytes, with the binaries that a part refers to; what several parts share
counts in each.

A path opens a part; every line of the answer has its own at its front:
  .name       the value of a key of a map, struct or keyword list, which is this atom
              or this string
  ."a b" .42  that of another string, or of an integer
  .My.Mod .:k that of an Elixir module, or of an atom as Elixir writes it
  .(LITERAL)  that of any key, in Elixir's or Erlang's syntax: .({a, 1}) .(<<"k">>)
  [3] [-1]    the third element of a list, the last one; of a map, the value of 3
  {2}         the second element of a tuple; the first is {1}
  #name       an element by name: #state and #data of a gen_statem, #children of a
              supervisor`,
		Example: `  debughost state shop@db1 Shop.Orders
  debughost state shop@db1 Shop.Orders .orders[3].items
  debughost state shop@db1 '<0.123.0>' '#data.queue' --depth 1 --width 100
  debughost state shop@db1 Shop.Live .socket.assigns
  debughost state shop@db1 Shop.Orders -o json | jq '.state.children[] | [.size, .path]'`,
		Args:              rangeArgs(2, "NODE", "PID|NAME", "PATH"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeProcess,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSyntax(cmd, req.GetSyntax()); err != nil {
				return err
			}
			req.Node, req.Process, req.Timeout = args[0], args[1], a.targetTimeout()
			if len(args) > 2 {
				req.Path = args[2]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.state(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	fl.Uint32Var(&req.Depth, "depth", 2, fmt.Sprintf("levels of parts to show, up to %d", control.MaxStateDepth))
	fl.Uint32Var(&req.Width, "width", 30, fmt.Sprintf("parts of each level to show, up to %d", control.MaxStateWidth))
	fl.Uint32Var(&req.Offset, "offset", 0, "parts of the first level to leave out at its beginning")
	fl.Uint32Var(&req.MaxBytes, "max-bytes", 4096, "where the text of the whole is cut (in JSON)")
	fl.StringVar(&req.Syntax, "syntax", "auto", "of terms: auto, erlang or elixir")
	fl.BoolVar(&req.Force, "force", false, "also ask a process of more than 64 MB, or one that does not look as if it would answer")
	complete(cmd, "syntax", "auto", "erlang", "elixir")
	return cmd
}

func checkSyntax(cmd *cobra.Command, s string) error {
	switch s {
	case "auto", "erlang", "elixir":
		return nil
	}
	return usagef("%s: syntax %q is none of auto, erlang, elixir", cmd.Name(), s)
}

// rangeArgs wants its arguments by name, of which the first least must be there.
func rangeArgs(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= len(names) {
			return nil
		}
		return exactArgs(names[:max(least, min(len(args), len(names)))]...)(cmd, args)
	}
}

// stateJSON is the answer in JSON; its keys are a contract.
type stateJSON struct {
	State           stateNodeJSON `json:"state"`
	Text            string        `json:"text"`
	Truncated       bool          `json:"truncated"`
	Node            string        `json:"node"`
	Pid             string        `json:"pid"`
	RegisteredName  string        `json:"registered_name"`
	Behaviour       string        `json:"behaviour"`
	Module          string        `json:"module"`
	InitialCall     string        `json:"initial_call"`
	Memory          uint64        `json:"memory"`
	MessageQueueLen uint64        `json:"message_queue_len"`
}

type stateNodeJSON struct {
	Kind      string          `json:"kind"`
	Key       string          `json:"key,omitempty"`
	Path      string          `json:"path"`
	Size      uint64          `json:"size"`
	Text      string          `json:"text"`
	Truncated bool            `json:"truncated"`
	Children  []stateNodeJSON `json:"children"`
	More      uint64          `json:"more"`
}

func stateNodeRow(n *controlpb.StateNode) stateNodeJSON {
	row := stateNodeJSON{
		Kind: n.GetKind(), Key: n.GetKey(), Path: n.GetPath(), Size: n.GetSize(), Text: n.GetText(), Truncated: n.GetTruncated(),
		Children: []stateNodeJSON{}, More: n.GetMore(),
	}
	for _, c := range n.GetChildren() {
		row.Children = append(row.Children, stateNodeRow(c))
	}
	return row
}

func (a *app) state(ctx context.Context, c *control.Client, req *controlpb.GetStateRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Depth.GetState(ctx, req)
	if err != nil {
		return err
	}
	if a.output == asJSON {
		return writeJSON(a.out, stateJSON{
			State: stateNodeRow(res.GetState()), Text: res.GetText(), Truncated: res.GetTruncated(), Node: res.GetNode(), Pid: res.GetPid(),
			RegisteredName: res.GetRegisteredName(), Behaviour: res.GetBehaviour(), Module: res.GetModule(), InitialCall: res.GetInitialCall(),
			Memory: res.GetMemory(), MessageQueueLen: res.GetMessageQueueLen(),
		})
	}
	return a.printState(res)
}

// printState writes a state for a person: what it is, then a line for each part
// that the line above it does not show whole.
func (a *app) printState(res *controlpb.GetStateResponse) error {
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("node", res.GetNode())
	w.fact("pid", res.GetPid())
	w.fact("registered_name", short(res.GetRegisteredName()))
	w.fact("behaviour", res.GetBehaviour())
	w.fact("module", short(res.GetModule()))
	w.fact("path", res.GetPath())
	root := res.GetState()
	w.fact("state", fmt.Sprintf("%s of %s", root.GetKind(), size(root.GetSize())))
	fmt.Fprintln(w)
	t := &stateTree{w: w, width: a.width(), room: sizeColumn}
	t.measure(root, 0)
	t.line(root, "", 0, cutText(root))
	t.parts(root, 1)
	if err := w.Flush(); err != nil {
		return err
	}
	if behaviour := res.GetBehaviour(); behaviour == "Phoenix.LiveView" && res.GetPath() == "" {
		a.note("what the view assigned is at .socket.assigns")
	}
	return nil
}

// sizeColumn is how wide the sizes are.
const sizeColumn = 7

// stateTree writes the parts of a state.
type stateTree struct {
	w     *detailWriter
	width int // of the terminal; 0: lines may be as long as they like
	room  int
	names int // the widest name with its indent
}

// measure finds the width of the column of names.
func (t *stateTree) measure(n *controlpb.StateNode, level int) {
	for _, c := range n.GetChildren() {
		t.names = min(40, max(t.names, 2*level+2+columns(sane(stepName(n, c)))))
		if c.GetTruncated() {
			t.measure(c, level+1)
		}
	}
}

// stepName is the last step to a part: .key, or [3], or {2} with its name.
func stepName(parent, part *controlpb.StateNode) string {
	step := strings.TrimPrefix(part.GetPath(), parent.GetPath())
	switch {
	case part.GetPath() == "": // its key is too large
		return "." + part.GetKey()
	case part.GetKey() != "" && strings.HasPrefix(step, "{"):
		return "#" + part.GetKey()
	}
	return step
}

func cutText(n *controlpb.StateNode) string {
	if n.GetTruncated() && !strings.Contains(n.GetText(), "...") {
		return n.GetText() + " …"
	}
	return n.GetText()
}

func (t *stateTree) line(n *controlpb.StateNode, name string, level int, text string) {
	indent := strings.Repeat("  ", level)
	pad := max(0, t.names-columns(indent+sane(name)))
	line := fmt.Sprintf("%s%s%s  %*s  ", indent, sane(name), strings.Repeat(" ", pad), t.room, size(n.GetSize()))
	text = strings.ReplaceAll(sane(text), "\n", " ")
	if left := t.width - columns(line); t.width > 0 && left > 10 && columns(text) > left {
		text = cut(text, left)
	}
	fmt.Fprintf(t.w, "%s%s\n", line, text)
}

func (t *stateTree) parts(n *controlpb.StateNode, level int) {
	for _, c := range n.GetChildren() {
		t.line(c, stepName(n, c), level, cutText(c))
		if c.GetTruncated() {
			t.parts(c, level+1)
		}
	}
	if n.GetMore() > 0 && len(n.GetChildren()) > 0 {
		fmt.Fprintf(t.w, "%s… %d more\n", strings.Repeat("  ", level), n.GetMore())
	}
}
