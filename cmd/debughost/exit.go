package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
)

// Exit codes; they are part of the contract of the command line.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3 // some targets or members failed; what the others said is printed
)

// errPartial ends a command whose errors are printed already.
var errPartial = errors.New("some targets failed")

// errPrinted is a failure whose errors are printed already.
var errPrinted = errors.New("failed")

// exitError is a failure with its exit code, whose errors are printed already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("failed with exit code %d", int(e)) }

// usageError is a mistake in how the command was called.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// finish prints the error of a command and returns its exit code.
func (a *app) finish(cmd *cobra.Command, err error) int {
	var usage *usageError
	var fail *control.Error
	var printed exitError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, errPrinted):
		return exitFailed
	case errors.As(err, &printed):
		return int(printed)
	case errors.As(err, &usage):
		a.complain(usage.msg, fmt.Sprintf("see `%s --help`", cmd.CommandPath()))
		return exitUsage
	case errors.As(err, &fail):
		a.complain(err.Error(), fail.Hint)
		if fail.Code == control.BadRequest {
			return exitUsage
		}
		return exitFailed
	}
	var hinted interface{ Hint() string }
	hint := ""
	if errors.As(err, &hinted) {
		hint = hinted.Hint()
	}
	a.complain(err.Error(), hint)
	return exitFailed
}

// complain prints an error as every command does.
func (a *app) complain(msg, hint string) {
	fmt.Fprintf(a.err, "debughost: %s\n", saneLines(msg))
	if hint != "" {
		a.hint(hint)
	}
}

func (a *app) hint(s string) { fmt.Fprintf(a.err, "hint: %s\n", saneLines(s)) }

// exactArgs wants its arguments by name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s: %s is missing", cmd.Name(), names[len(args)])
		case len(args) > len(names):
			return usagef("%s: one argument too many: %q", cmd.Name(), args[len(names)])
		}
		return nil
	}
}

// someArgs wants at least one argument of a name.
func someArgs(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return exactArgs(name)(cmd, args[:min(len(args), 1)])
	}
}

// optionalArgs wants the first n of its arguments by name, and takes the others.
func optionalArgs(n int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return exactArgs(names[:min(max(n, len(args)), len(names))]...)(cmd, args)
	}
}

// subcommandOnly is for commands that only hold others.
func subcommandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	name := args[0]
	msg := fmt.Sprintf("unknown command %q", name)
	likely := cmd.SuggestionsFor(name)
	// A letter too many or too few is likelier than other letters.
	begun := func(s string) bool { return !strings.HasPrefix(name, s) && !strings.HasPrefix(s, name) }
	if near := slices.DeleteFunc(slices.Clone(likely), begun); len(near) > 0 {
		likely = near
	}
	for i, s := range likely {
		if i == 0 {
			msg += fmt.Sprintf("; did you mean %s", s)
		} else {
			msg += " or " + s
		}
	}
	return &usageError{msg}
}
