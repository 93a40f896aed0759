package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// atOnce bounds how many children a command that names several acts on at a time.
const atOnce = 8

// childErrorJSON is a child that a command which names several has failed at.
type childErrorJSON struct {
	ID    string `json:"id"`
	Code  string `json:"code"`
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

// childOutcome is what became of one of several children.
type childOutcome struct {
	child *controlpb.Child // nil where there is nothing to tell of it
	err   error
}

// toSeveral does something to several children, some at a time, and then prints
// what came of each, in their order. Its exit code is that of the worst.
func (a *app) toSeveral(cmd *cobra.Command, ids []string, do func(ctx context.Context, c *control.Client, id string) (*controlpb.Child, error)) error {
	ids = firsts(ids)
	outcomes := make([]childOutcome, len(ids))
	err := a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
		var acts sync.WaitGroup
		slots := make(chan struct{}, atOnce)
		for i, id := range ids {
			slots <- struct{}{}
			acts.Go(func() {
				defer func() { <-slots }()
				outcomes[i].child, outcomes[i].err = do(ctx, c, id)
			})
		}
		acts.Wait()
		return nil
	})
	if err != nil {
		return err
	}
	return a.printOutcomes(cmd, ids, outcomes)
}

// firsts drops what is named again.
func firsts(ids []string) []string {
	var out []string
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// printOutcomes prints what was removed, where the outcomes have no child, or what
// the children are now.
func (a *app) printOutcomes(cmd *cobra.Command, ids []string, outcomes []childOutcome) error {
	children, removed, failed := []childJSON{}, []string{}, []childErrorJSON{}
	worst := exitDone
	for i, o := range outcomes {
		switch {
		case o.child != nil:
			children = append(children, childRow(o.child))
		case o.err == nil:
			removed = append(removed, ids[i])
		}
		if o.err != nil {
			failed = append(failed, childFailure(ids[i], o.err))
		}
		if a.output != asJSON {
			if err := a.printOutcome(ids[i], o); err != nil {
				return err
			}
		}
		if o.err != nil {
			worst = max(worst, a.finish(cmd, o.err))
		}
	}
	if a.output == asJSON {
		answer := map[string]any{"children": children, "errors": failed}
		if cmd.Name() == "remove" {
			answer = map[string]any{"removed": removed, "errors": failed}
		}
		if err := writeJSON(a.out, answer); err != nil {
			return err
		}
	}
	if worst != exitDone {
		return exitError(worst)
	}
	return nil
}

func (a *app) printOutcome(id string, o childOutcome) (err error) {
	switch {
	case o.child != nil:
		_, err = fmt.Fprintln(a.out, sane(childText(o.child)))
	case o.err == nil:
		_, err = fmt.Fprintf(a.out, "child %s is removed\n", sane(id))
	}
	return err
}

func childFailure(id string, err error) childErrorJSON {
	e := childErrorJSON{ID: id, Code: string(control.Failed), Error: err.Error()}
	var fail *control.Error
	if errors.As(err, &fail) {
		e.Code, e.Hint = string(fail.Code), fail.Hint
	}
	return e
}
