package target

import (
	"cmp"
	"context"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// owners names the processes that own what an answer lists, all in one call.
type owners struct {
	t    *target
	tell map[etf.Pid][]func(name, call string)
}

func (t *target) newOwners() *owners { return &owners{t, map[etf.Pid][]func(name, call string){}} }

// add has *name set to the registered name of a process, or else to its initial
// call. What is no pid has none.
func (o *owners) add(owner etf.Term, name *string) {
	if pid, ok := owner.(etf.Pid); ok {
		o.tell[pid] = append(o.tell[pid], func(registered, call string) { *name = cmp.Or(registered, call) })
	}
}

// addRef has both told apart.
func (o *owners) addRef(owner etf.Term, ref *ProcessRef) {
	if pid, ok := owner.(etf.Pid); ok {
		o.tell[pid] = append(o.tell[pid], func(registered, call string) { ref.RegisteredName, ref.InitialCall = registered, call })
	}
}

// resolve asks the target. A process that has ended meanwhile stays without a name.
func (o *owners) resolve(ctx context.Context, link *node.Peer) error {
	var pids []etf.Term
	for pid := range o.tell {
		if string(pid.Node) == link.Name() {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil
	}
	in := &inspection{t: o.t, link: link}
	named, err := in.lookUp(ctx, pids)
	if err != nil {
		return err
	}
	rows := o.t.rows(link)
	for i, n := range named {
		pid := pids[i].(etf.Pid)
		o.t.shown.note(pid)
		if e, ok := n.(etf.Tuple); ok && len(e) == 2 {
			for _, tell := range o.tell[pid] {
				tell(atom(e[0]), rows.mfa(e[1]))
			}
		}
	}
	return nil
}
