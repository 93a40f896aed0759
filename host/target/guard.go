package target

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// protected refuses what would take the node down: the emulator's own
// processes, those that kernel's supervisors cannot restart and what is linked
// to them, and the master, the starter and the top supervisor of a permanent
// application. When the node does not say enough to tell, that is an error, and
// nothing is ended.
func (t *target) protected(ctx context.Context, link *node.Peer, pid etf.Pid, info map[etf.Atom]etf.Term) error {
	why, err := t.vital(ctx, link, pid, info)
	if err == nil && why == "" {
		why, err = t.escalates(ctx, link, pid)
	}
	return refused(fmt.Sprintf("kill %s on %s", pidText(pid), link.Name()), why, err)
}

// refused is the error of an act that would take the node down, for why, or of
// which that could not be found out.
func refused(tried, why string, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s: find out whether the node can do without it: %w", tried, err)
	case why != "":
		return hint(fmt.Errorf("%s: %w: %s", tried, ErrProtected, why), "--force does it all the same")
	}
	return nil
}

// escalates looks at the supervisors that would end with the process because
// they have reached their restart limits: one of them may be vital. Without the
// helper module nobody looks, and it is not refused.
func (t *target) escalates(ctx context.Context, link *node.Peer, pid etf.Pid) (why string, err error) {
	reply, err := t.agentCall(ctx, link, "escalation", pid)
	if errors.Is(err, errNoAgent) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sups, _ := etf.Elements(reply)
	for _, e := range sups {
		sup, ok := e.(etf.Pid)
		if !ok {
			continue
		}
		info, err := t.processInfo(ctx, link, sup, vitalItems)
		if errors.Is(err, ErrNoProcess) {
			continue
		}
		if err != nil {
			return "", err
		}
		why, err := t.vital(ctx, link, sup, info)
		if err != nil {
			return "", err
		}
		if why != "" {
			return fmt.Sprintf("its supervisor has reached its restart limit and would end up to %s %s, of which: %s", pidText(sup), atom(info["registered_name"]), why), nil
		}
	}
	return "", nil
}

// vitalItems are what vital needs to know of a process.
var vitalItems = []etf.Atom{"registered_name", "group_leader", "links"}

// vital tells why the node would end with a process; empty when it would not.
func (t *target) vital(ctx context.Context, link *node.Peer, pid etf.Pid, info map[etf.Atom]etf.Term) (why string, err error) {
	system, err := t.call(ctx, link, "erts_internal", "is_system_process", pid)
	if err != nil {
		return "", err
	}
	if atom(system) == "true" {
		return "it is part of the emulator, and its end is the node's", nil
	}
	switch name := atom(info["registered_name"]); name {
	case agentModule:
		return "it is debughost's own: the helper module leaves when debughost does", nil
	case "init", "erl_prim_loader", "kernel_sup", "application_controller", "logger", "net_sup", "erts_code_purger":
		return fmt.Sprintf("%s is part of the kernel, and its end is the node's", name), nil
	}
	links, _ := etf.Elements(info["links"])
	for _, sup := range []etf.Atom{"kernel_sup", "net_sup"} {
		children, err := t.children(ctx, link, sup)
		if err != nil {
			return "", err
		}
		for _, child := range children {
			switch {
			case etf.Equal(child.pid, pid):
				return fmt.Sprintf("it is a child of %s, which ends the node when one of its children does", sup), nil
			case !restartable[child.id] && contains(links, child.pid):
				return fmt.Sprintf("it is linked to %s, a part of the kernel whose end is the node's", child.id), nil
			}
		}
	}
	app, what, err := t.permanent(ctx, link, pid, info["group_leader"], links)
	if err != nil {
		return "", err
	}
	if app != "" {
		return fmt.Sprintf("it is the %s of %s, a permanent application, whose end is the node's", what, app), nil
	}
	return "", nil
}

// restartable are the children of kernel's supervisors that are supervisors
// themselves: those below them may end.
var restartable = map[string]bool{"kernel_safe_sup": true, "logger_sup": true, "user": true, "standard_error": true, "net_sup": true}

func contains(list []etf.Term, pid etf.Term) bool {
	return slices.ContainsFunc(list, func(t etf.Term) bool { return etf.Equal(t, pid) })
}

// child is one of a supervisor's.
type child struct {
	id  string
	pid etf.Pid
}

// children returns a supervisor's children; none if it does not run (a node
// without distribution has no net_sup).
func (t *target) children(ctx context.Context, link *node.Peer, sup etf.Atom) ([]child, error) {
	reply, err := t.call(ctx, link, "erlang", "whereis", sup)
	if err != nil || atom(reply) == "undefined" {
		return nil, err
	}
	reply, err = t.call(ctx, link, "supervisor", "which_children", sup)
	if err != nil {
		return nil, err
	}
	list, _ := etf.Elements(reply)
	var out []child
	for _, c := range list {
		if e, ok := c.(etf.Tuple); ok && len(e) == 4 {
			if pid, ok := e[1].(etf.Pid); ok {
				out = append(out, child{id: atom(e[0]), pid: pid})
			}
		}
	}
	return out, nil
}

// permanent tells whether pid is the master, the starter or the top supervisor
// of an application whose end is the node's.
func (t *target) permanent(ctx context.Context, link *node.Peer, pid etf.Pid, leader etf.Term, links []etf.Term) (app, what string, err error) {
	reply, err := t.call(ctx, link, "application", "info")
	if err != nil {
		return "", "", err
	}
	info := pairs(reply)
	types := map[string]string{}
	for _, e := range tuples(info["started"]) {
		types[atom(e[0])] = atom(e[1])
	}
	for _, e := range tuples(info["running"]) {
		name, master := atom(e[0]), e[1]
		if types[name] != "permanent" {
			continue
		}
		switch {
		case etf.Equal(master, pid):
			return name, "application master", nil
		case contains(links, master):
			return name, "starter", nil
		case !etf.Equal(master, leader):
			continue
		}
		child, err := t.call(ctx, link, "application_master", "get_child", master)
		if err != nil {
			return "", "", err
		}
		if e, ok := child.(etf.Tuple); ok && len(e) == 2 && etf.Equal(e[0], pid) {
			return name, "top supervisor", nil
		}
	}
	return "", "", nil
}
