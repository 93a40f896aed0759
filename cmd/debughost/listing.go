package main

import (
	controlpb "github.com/debughost/debughost/control/proto"
)

// listing is an answer of rows, and of errors of nodes that have none: printed
// alike by all commands that ask several nodes.
type listing[T any] struct {
	plural string // the key of the rows in JSON
	rows   []T    // as JSON has them
	errors []*controlpb.NodeError
	// answered is how many nodes did, where one may have nothing to list: with a
	// failure of another that is part of an answer, and not a failure of all.
	answered int

	alsoPlural string // the key of a second list, in JSON alone; empty for none
	also       []any

	header []string // of CSV
	csv    func(T) []string
	grid   []column // of the table
	cells  func(T) []string
	note   string // told beside a table without rows where nothing failed
}

// printListing prints in the format that is asked for. Its error chooses the
// exit code.
func printListing[T any](a *app, l listing[T]) error {
	errs := nodeErrorRows(l.errors)
	var err error
	switch a.output {
	case asJSON:
		err = l.json(a, errs)
	case asCSV:
		err = a.writeCSV(l.header, func(write func(...string) error) error {
			for _, r := range l.rows {
				if err := write(l.csv(r)...); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		g := newGrid(l.grid...)
		for _, r := range l.rows {
			g.add(l.cells(r)...)
		}
		if len(l.rows) > 0 {
			err = a.print(g)
		} else if len(errs) == 0 && l.note != "" {
			a.note("%s", l.note)
		}
	}
	if err != nil {
		return err
	}
	if a.output != asJSON {
		a.printNodeErrors(errs)
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(l.rows) == 0 && l.answered == 0:
		return errPrinted
	}
	return errPartial
}

func (l *listing[T]) json(a *app, errs []nodeErrorJSON) error {
	out := newJSONList(a.out)
	out.begin(l.plural)
	for _, r := range l.rows {
		if err := out.item(r); err != nil {
			return err
		}
	}
	if l.alsoPlural != "" {
		out.begin(l.alsoPlural)
		for _, r := range l.also {
			if err := out.item(r); err != nil {
				return err
			}
		}
	}
	out.begin("errors")
	for _, e := range errs {
		if err := out.item(e); err != nil {
			return err
		}
	}
	return out.close()
}

func nodeErrorRows(errs []*controlpb.NodeError) []nodeErrorJSON {
	var out []nodeErrorJSON
	for _, e := range errs {
		out = append(out, nodeErrorJSON{e.GetNode(), e.GetError(), e.GetHint()})
	}
	return out
}
