package target

import (
	"context"
	"errors"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// MaxTimerOwners bounds the owners of timers of one target in one answer.
const MaxTimerOwners = 10_000

// TimersQuery asks for the timers of OTP's timer server, those of the module
// timer. Timers of the emulator (erlang:send_after/3, and what timer:send_after
// makes of it since OTP 25) are listed by no node.
type TimersQuery struct {
	Ask
	Limit int // owners of each target; default and at most MaxTimerOwners
}

// TimerOwner is how many timers that repeat a process has.
type TimerOwner struct {
	Owner     string // <0.123.0>
	OwnerName string // its registered name, else its initial call as mod:fun/arity
	Count     uint64
}

// Timers are the timers of the timer server.
type Timers struct {
	Owners []TimerOwner // who has timers that repeat, those with most first
	Total  uint64       // timers in all; those that fire once have no owner
	Server bool         // false: nobody has used the module timer
}

// Timers tells the timers of targets.
func (m *Manager) Timers(ctx context.Context, q TimersQuery, out Answers[Timers]) {
	if q.Limit <= 0 || q.Limit > MaxTimerOwners {
		q.Limit = MaxTimerOwners
	}
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Timers, error) {
		reply, err := t.companionWalk(ctx, link, groupsModule, "timers", etf.Int(t.most(q.Limit)))
		switch {
		case errors.Is(err, errNoAgent):
			return Timers{}, noHelper(link, "list timers", "the timer server's table and monitors are looked through by it")
		case err != nil:
			return Timers{}, err
		case atom(reply) == "absent":
			return Timers{}, nil
		}
		return t.parseTimers(ctx, link, reply)
	})
}

// parseTimers reads {Size, [{Owner, Count}]}.
func (t *target) parseTimers(ctx context.Context, link *node.Peer, reply etf.Term) (Timers, error) {
	total, rows, err := totalled(link, "list timers", reply, 2)
	if err != nil {
		return Timers{}, err
	}
	out := Timers{Server: true, Total: uint64(total), Owners: make([]TimerOwner, len(rows))}
	owners := t.newOwners()
	for i, r := range rows {
		out.Owners[i] = TimerOwner{Owner: identifier(r[0]), Count: count(r[1])}
		owners.add(r[0], &out.Owners[i].OwnerName)
	}
	return out, owners.resolve(ctx, link)
}
