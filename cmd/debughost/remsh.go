package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) remshCommand() *cobra.Command {
	start := &controlpb.ShellStart{}
	var language languageFlags
	cmd := &cobra.Command{
		Use:   "remsh NODE",
		Short: "Open the shell of a node: IEx or Erlang's",
		Long: `Open a shell on a node: IEx where the node has it, else Erlang's. Neither is needed
on this machine, and the node's cookie is not either.

Ctrl-C ends what is being evaluated, or drops the line; Ctrl-D leaves. The node runs
on; only what the shell itself is told can stop it, such as init:stop() or System.halt().
In Erlang's shell q() just leaves. Tab completes, Ctrl-R searches the history, which
is in $XDG_STATE_HOME/debughost/remsh_history; a line that begins with a space is not
written there. The audit log has every line.

Without a terminal it reads expressions from standard input and prints no prompts.`,
		Example: `  debughost remsh shop@db1
  debughost remsh shop@db1 --erlang
  echo 'IO.puts(Node.self())' | debughost remsh shop@db1`,
		Args:              exactArgs("NODE"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeNodes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.output != table {
				return usagef("remsh prints what the shell does: -o %s is not possible; see `debughost eval`", a.output)
			}
			var err error
			if start.Language, err = language.chosen(); err != nil {
				return err
			}
			start.Node, start.Timeout = args[0], a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.remsh(ctx, c, start)
			})
		},
	}
	language.add(cmd)
	return cmd
}

// front is what a person has before them: a terminal, or pipes. Its methods are
// called by one goroutine, and may block.
type front interface {
	// started says where the shell runs.
	started(*controlpb.ShellStarted)
	print(text string) error
	// read returns the line that is wanted, with its line end; io.EOF where there
	// is none any more, errInterrupt when the person drops it.
	read(*controlpb.ShellRead) (string, error)
	size() *controlpb.ShellSize // nil: no terminal
	close()
}

var errInterrupt = errors.New("interrupted")

// remote is what a front may ask of the node.
type remote interface {
	interrupt()
	complete(before string) *controlpb.ShellCompletions // nil: no answer
	resized(*controlpb.ShellSize)
}

// remsh runs the shell. This goroutine takes what the node says; one other waits
// for lines of the person.
func (a *app) remsh(ctx context.Context, c *control.Client, start *controlpb.ShellStart) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Shell.OpenShell(ctx)
	if err != nil {
		return err
	}
	s := &remshSession{ctx: ctx, stream: stream, completions: make(chan *controlpb.ShellCompletions, 1)}
	f, err := a.front(s)
	if err != nil {
		return err
	}
	defer f.close()
	s.front = f
	start.Size = f.size()
	if err := s.send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Start{Start: start}}); err != nil {
		return s.outcome(err)
	}
	wanted := make(chan *controlpb.ShellRead, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lines(wanted)
	}()
	err = s.outputs(wanted)
	cancel()
	close(wanted)
	f.close() // wakes lines
	<-done
	return err
}
