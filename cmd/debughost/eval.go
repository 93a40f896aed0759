package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// evalJSON is what came of an evaluation; its keys are a contract.
type evalJSON struct {
	Value  json.RawMessage `json:"value"`
	Text   string          `json:"text"`
	Output string          `json:"output"`
}

func (a *app) evalCommand() *cobra.Command {
	req := &controlpb.EvaluateRequest{}
	var language languageFlags
	var file string
	cmd := &cobra.Command{
		Use:   "eval NODE EXPR",
		Short: "Evaluate an Elixir or Erlang expression on a node",
		Long: `Evaluate an expression in a process of its own on a node, and print what it prints
and then its value. It is Elixir where the node runs that, else Erlang, whose final
dot may be left out. - reads it from standard input.

After --timeout (5s) the process is killed; what it started by itself goes on. With
an exception, which is printed as the language does, the exit code is 1. What is
longer than --max-bytes is cut on the node.

It can do all that code on the node can. The audit log has the expression, and
neither its value nor its output.`,
		Example: `  debughost eval shop@db1 'Shop.Cart.count()'
  debughost eval shop@db1 --erlang 'erlang:memory(total)'
  debughost eval shop@db1 --file fix.exs --timeout 1m
  echo 'Enum.sum(1..10)' | debughost eval shop@db1 -
  debughost eval shop@db1 'System.schedulers_online()' -o json | jq .value`,
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return exactArgs("NODE")(cmd, args)
			}
			return exactArgs("NODE", "EXPR")(cmd, args)
		},
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeNodes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Language, err = language.chosen(); err != nil {
				return err
			}
			if req.Expression, err = a.expression(file, args[1:]); err != nil {
				return err
			}
			req.Node, req.Timeout = args[0], a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.eval(ctx, c, req)
			})
		},
	}
	fl := cmd.Flags()
	language.add(cmd)
	fl.StringVar(&file, "file", "", "read the expression from this file")
	fl.Uint32Var(&req.MaxBytes, "max-bytes", control.MaxBytes, "where value and output are cut")
	_ = cmd.MarkFlagFilename("file", "exs", "ex", "erl")
	return cmd
}

// languageFlags are --erlang and --elixir.
type languageFlags struct{ erlang, elixir bool }

func (f *languageFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.erlang, "erlang", false, "Erlang, also where the node runs Elixir")
	cmd.Flags().BoolVar(&f.elixir, "elixir", false, "Elixir")
}

func (f *languageFlags) chosen() (string, error) {
	switch {
	case f.erlang && f.elixir:
		return "", usagef("--erlang and --elixir exclude each other")
	case f.erlang:
		return control.LanguageErlang, nil
	case f.elixir:
		return control.LanguageElixir, nil
	}
	return control.LanguageAuto, nil
}

// expression is the one that is given, or read from a file or from standard input.
func (a *app) expression(file string, args []string) (string, error) {
	in, name := a.in, "standard input"
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read expression: %w", err)
		}
		defer f.Close()
		in, name = f, file
	case args[0] != "-":
		return args[0], nil
	}
	b, err := io.ReadAll(io.LimitReader(in, control.MaxExpression+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read expression from %s: %w", name, err)
	case len(b) > control.MaxExpression:
		return "", usagef("eval: the expression in %s is longer than %d bytes", name, control.MaxExpression)
	}
	return string(b), nil
}

func (a *app) eval(ctx context.Context, c *control.Client, req *controlpb.EvaluateRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Shell.Evaluate(ctx, req)
	if err != nil {
		return err
	}
	failed := res.GetOutcome() != control.EvalValue
	output := res.GetOutput()
	if left := res.GetOutputLeft(); left > 0 {
		output = fmt.Sprintf("%s… (%d bytes more)\n", ownLine(output), left)
	}
	text := res.GetText()
	if res.GetTruncated() {
		text += " … (cut)"
	}
	switch {
	case a.output == asJSON:
		err = writeJSON(a.out, evalJSON{json.RawMessage(res.GetValue()), text, output})
	case failed:
		_, err = io.WriteString(a.out, saneLines(output))
	default:
		_, err = fmt.Fprintf(a.out, "%s%s\n", saneLines(ownLine(output)), saneLines(text))
	}
	switch {
	case err != nil:
		return err
	case !failed:
		return nil
	case res.GetOutcome() == control.EvalException:
		fmt.Fprintln(a.err, saneLines(text))
		if req.GetLanguage() == control.LanguageAuto && res.GetLanguage() == control.LanguageErlang {
			a.note("this was evaluated as Erlang, since %s does not run Elixir", sane(res.GetNode()))
		}
		return errPrinted
	case res.GetOutcome() == control.EvalTimeout:
		return &control.Error{Code: control.Timeout, Cause: "evaluate on " + res.GetNode() + ": " + text, Hint: "--timeout waits longer"}
	}
	return &control.Error{Code: control.Failed, Cause: "evaluate on " + res.GetNode() + ": " + text}
}

// ownLine ends a text with a line end, unless it is empty.
func ownLine(s string) string {
	if s == "" || s[len(s)-1] == '\n' {
		return s
	}
	return s + "\n"
}
