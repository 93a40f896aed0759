package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/etf"
)

// maxChildren is the largest supervisor, in children, that is searched for one
// of them by its id.
const maxChildren = 100_000

// supChild is what a supervisor tells of a child.
type supChild struct {
	id    etf.Term // a pid, of a supervisor whose children have no ids
	pid   etf.Term // a pid, undefined or restarting
	named string   // the id as a person writes it
}

// child terminates or restarts a child of a supervisor.
func (a *act) child(ctx context.Context) error {
	dynamic, err := a.supervisor(ctx)
	if err != nil {
		return err
	}
	c, err := a.find(ctx, dynamic)
	if err != nil {
		return err
	}
	a.out.Child = c.named
	pid, runs := c.pid.(etf.Pid)
	if a.Kind == ActRestartChild {
		_, nameless := c.id.(etf.Pid)
		if err := a.restartable(ctx, c, nameless); err != nil {
			return err
		}
	} else if !runs && atom(c.pid) != "restarting" {
		return hint(fmt.Errorf("%s: %w: child %s does not run", a.tried, ErrConflict, c.named), "`debughost child restart` starts it again")
	}
	if runs {
		if err := a.end(ctx, c, pid); err != nil {
			return err
		}
	} else if atom(c.pid) == "restarting" {
		if err := a.terminate(ctx, c.id); err != nil {
			return err
		}
	}
	if a.Kind == ActTerminateChild {
		return nil
	}
	return a.start(ctx, c)
}

// supervisor checks that the process is one, and small enough to be searched.
// dynamic says that its children have no ids; where it does not, that may still
// be so.
func (a *act) supervisor(ctx context.Context) (dynamic bool, err error) {
	reply, err := a.call(ctx, "proc_lib", "translate_initial_call", a.pid)
	if err != nil {
		return false, err
	}
	// Elixir's supervisors, dynamic ones too, say that they are OTP's.
	if e, ok := reply.(etf.Tuple); !ok || len(e) != 3 || atom(e[0]) != "supervisor" {
		return false, hint(fmt.Errorf("%s: %w: it is not a supervisor: it runs %s", a.tried, ErrBadQuery, a.t.rows(a.link).mfa(reply)), "`debughost ps --function supervisor` shows some")
	}
	reply, err = a.call(ctx, "supervisor", "count_children", a.pid)
	if err != nil {
		return false, err
	}
	specs, active := count(pairs(reply)["specs"]), count(pairs(reply)["active"])
	switch {
	case specs == 1 && active > 1:
		return true, nil // one specification for all
	case specs > maxChildren:
		return false, fmt.Errorf("%s: %w: it has %d children, %d may be searched", a.tried, ErrLarge, specs, maxChildren)
	}
	return false, nil
}

// find finds the child that is meant.
func (a *act) find(ctx context.Context, dynamic bool) (supChild, error) {
	var wanted etf.Term
	if p, err := a.t.process(ctx, a.link, a.Child, !a.Force); err == nil {
		wanted = p
	} else if errors.Is(err, ErrStalePid) {
		return supChild{}, err
	}
	if dynamic {
		if wanted == nil {
			return supChild{}, hint(fmt.Errorf("%s: %w: its children have no ids", a.tried, ErrBadQuery), "name the child by its pid or its registered name")
		}
		return supChild{id: wanted, pid: wanted, named: identifier(wanted)}, nil
	}
	reply, err := a.call(ctx, "supervisor", "which_children", a.pid)
	if err != nil {
		return supChild{}, err
	}
	list, _ := etf.Elements(reply)
	own := printOptions(ctx, a.t, a.link, InspectQuery{ElixirGuess: true}).Syntax // the node's
	var ids []string
	var byPid *supChild
	for _, e := range list {
		t, ok := e.(etf.Tuple)
		if !ok || len(t) != 4 {
			continue
		}
		if atom(t[0]) == "undefined" { // it has no id, and is known by its pid
			if wanted != nil && etf.Equal(t[1], wanted) {
				return supChild{id: wanted, pid: wanted, named: identifier(wanted)}, nil
			}
			ids = append(ids, identifier(t[1]))
			continue
		}
		c := supChild{id: t[0], pid: t[1], named: a.idText(t[0], own)}
		if slices.Contains([]string{a.idText(t[0], etf.Erlang), a.idText(t[0], etf.Elixir), strings.TrimPrefix(atom(t[0]), "Elixir.")}, a.Child) || atom(t[0]) != "" && atom(t[0]) == a.Child {
			return c, nil
		}
		if wanted != nil && etf.Equal(t[1], wanted) {
			byPid = &c
		}
		ids = append(ids, c.named)
	}
	if byPid != nil {
		return *byPid, nil
	}
	more := ""
	if len(ids) > 10 {
		ids, more = ids[:10], ", …"
	}
	return supChild{}, hint(fmt.Errorf("%s: %w: it has no child %.80q", a.tried, ErrNoProcess, a.Child), "its children are %s%s", strings.Join(ids, ", "), more)
}

func (a *act) idText(id etf.Term, s etf.Syntax) string {
	return etf.Format(id, etf.PrintOptions{Syntax: s, MaxBytes: 500, Node: etf.Atom(a.link.Name())})
}

// restartable refuses what could be terminated and not be started again.
func (a *act) restartable(ctx context.Context, c supChild, nameless bool) error {
	if nameless {
		return hint(fmt.Errorf("%s: %w: a supervisor of this kind forgets a child that is terminated", a.tried, ErrBadQuery),
			"`debughost kill` ends the child, and then the supervisor restarts it, if it is permanent")
	}
	reply, err := a.call(ctx, "supervisor", "get_childspec", a.pid, c.id)
	if err != nil {
		return err
	}
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 2 || atom(e[0]) != "ok" {
		return fmt.Errorf("%s: get the specification of %s: got %s", a.tried, c.named, printed(reply))
	}
	if spec, ok := e[1].(etf.Map); ok {
		for _, p := range spec {
			if atom(p.Key) == "restart" && atom(p.Value) == "temporary" {
				return hint(fmt.Errorf("%s: %w: %s is temporary: the supervisor forgets it when it is terminated", a.tried, ErrBadQuery, c.named),
					"it can be terminated, and not be started again")
			}
		}
	}
	return nil
}

// end terminates a child that runs, unless the node may not do without it. One that has
// ended since may have been started again: what restarts in a loop is to be stopped all
// the same, and is nothing that the node depends on.
func (a *act) end(ctx context.Context, c supChild, pid etf.Pid) error {
	if !a.Force {
		info, err := a.t.processInfo(ctx, a.link, pid, vitalItems)
		if err == nil {
			var why string
			why, err = a.t.vital(ctx, a.link, pid, info)
			err = refused(a.tried, why, err)
		}
		if err != nil && !errors.Is(err, ErrNoProcess) {
			return err
		}
	}
	a.out.ChildPid = pidText(pid)
	return a.terminate(ctx, c.id)
}

func (a *act) terminate(ctx context.Context, id etf.Term) error {
	reply, err := a.call(ctx, "supervisor", "terminate_child", a.pid, id)
	if errors.Is(err, ErrTimeout) {
		return hint(err, "the supervisor was told, and waits for the child as long as its shutdown time says")
	}
	if err != nil {
		return err
	}
	if atom(reply) != "ok" {
		return fmt.Errorf("%s: terminate child: got %s", a.tried, printed(reply))
	}
	return nil
}

func (a *act) start(ctx context.Context, c supChild) error {
	reply, err := a.call(ctx, "supervisor", "restart_child", a.pid, c.id)
	if err != nil {
		return err
	}
	e, ok := reply.(etf.Tuple)
	switch {
	case !ok || len(e) < 2:
		return fmt.Errorf("%s: start child: got %s", a.tried, printed(reply))
	case atom(e[0]) == "ok":
		if p, ok := e[1].(etf.Pid); ok {
			a.out.NewPid = pidText(p)
			a.t.shown.note(p)
		}
		return nil
	case atom(e[1]) == "running" || atom(e[1]) == "restarting":
		return fmt.Errorf("%s: %w: somebody has started %s meanwhile", a.tried, ErrConflict, c.named)
	}
	return hint(fmt.Errorf("%s: child %s does not start: %s", a.tried, c.named, printed(e[1])), "it is terminated now; once its cause is mended, do this again")
}

func isRemote(err error) bool {
	var remote interface{ Undefined() bool }
	return errors.As(err, &remote)
}
