package target

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/debughost/debughost/erl/etf"
)

// flagKind says which values a process flag has.
type flagKind struct {
	words []string // one of these, or
	most  int64    // a number from 0 to this
	// risky is more than which may cost the node its memory; 0: no number is.
	risky int64
}

// processFlags are those that another process can have set: save_calls by OTP
// itself, the others by the process when sys asks it to.
var processFlags = map[string]flagKind{
	"save_calls":         {most: 10_000},
	"trap_exit":          {words: []string{"true", "false"}},
	"sensitive":          {words: []string{"true", "false"}},
	"priority":           {words: []string{"low", "normal", "high"}},
	"message_queue_data": {words: []string{"off_heap", "on_heap"}},
	"fullsweep_after":    {most: 65_535},
	"min_heap_size":      {most: 1 << 40, risky: 16 << 20},
	"min_bin_vheap_size": {most: 1 << 40, risky: 1 << 30},
	"max_heap_size":      {most: 1 << 40},
}

// ProcessFlags lists the flags that Act can set.
func ProcessFlags() []string { return slices.Sorted(maps.Keys(processFlags)) }

// flagValue reads a flag's value.
func (a *act) flagValue() (etf.Term, error) {
	kind, ok := processFlags[a.Flag]
	if !ok {
		return nil, hint(fmt.Errorf("%s: %w: no flag %.40q can be set for another process", a.tried, ErrBadQuery, a.Flag), "flags are %s", strings.Join(ProcessFlags(), ", "))
	}
	if len(kind.words) > 0 {
		value := strings.TrimPrefix(a.Value, ":")
		if !slices.Contains(kind.words, value) {
			return nil, fmt.Errorf("%s: %w: %s is one of %s, not %.40q", a.tried, ErrBadQuery, a.Flag, strings.Join(kind.words, ", "), a.Value)
		}
		return etf.Atom(value), nil
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(a.Value, "_", ""), 10, 64)
	switch {
	case err != nil || n < 0 || n > kind.most:
		return nil, fmt.Errorf("%s: %w: %s is a number from 0 to %d, not %.40q", a.tried, ErrBadQuery, a.Flag, kind.most, a.Value)
	case kind.risky > 0 && n > kind.risky && !a.Force:
		return nil, refused(a.tried, fmt.Sprintf("a %s of more than %d words may cost the node its memory", a.Flag, kind.risky), nil)
	}
	return etf.Int(n), nil
}

// flag sets a process flag. OTP lets another process set save_calls alone.
func (a *act) flag(ctx context.Context) error {
	value, err := a.flagValue()
	if err != nil {
		return err
	}
	if err := a.heapLimit(ctx, value); err != nil {
		return err
	}
	var was etf.Term
	if a.Flag == "save_calls" {
		was, err = a.call(ctx, "erlang", "process_flag", a.pid, etf.Atom(a.Flag), value)
	} else {
		was, err = a.ownFlag(ctx, value)
	}
	if err != nil {
		return err
	}
	a.out.Flag, a.out.Value = a.Flag, printed(value)
	a.out.Was = printed(was)
	a.after(ctx)
	return nil
}

// heapLimit refuses a limit that the process is above: it would end at once.
func (a *act) heapLimit(ctx context.Context, value etf.Term) error {
	words, ok := value.(etf.Int)
	if a.Flag != "max_heap_size" || !ok || words == 0 || a.Force {
		return nil
	}
	info, err := a.t.processInfo(ctx, a.link, a.pid, []etf.Atom{"total_heap_size"})
	if err != nil {
		return err
	}
	if total := count(info["total_heap_size"]); total >= uint64(words) {
		return refused(a.tried, fmt.Sprintf("its heap has %d words already, so that this limit would end it", total), nil)
	}
	return nil
}

// ownFlag has the process set a flag of its own.
func (a *act) ownFlag(ctx context.Context, value etf.Term) (etf.Term, error) {
	if err := a.t.extend(ctx, a.link, otpModule); err != nil { // before the time is divided
		return nil, a.t.otpError(a.tried, err)
	}
	spec := etf.Map{{Key: etf.Atom("timeout"), Value: etf.Int(sysTimeout(ctx))}, {Key: etf.Atom("limit"), Value: etf.Int(mayCopy(a.Force))}}
	reply, err := a.t.companionCall(ctx, a.link, otpModule, "flag", a.pid, etf.Atom(a.Flag), value, spec)
	if err != nil {
		return nil, a.t.otpError(a.tried, err)
	}
	if e, ok := reply.(etf.Tuple); ok && len(e) == 2 && atom(e[0]) == "ok" {
		return e[1], nil
	}
	err = (&stateReader{calls: a.t.rows(a.link)}).refused(a.tried, reply)
	if e, ok := reply.(etf.Tuple); ok && len(e) == 2 {
		switch atom(e[0]) {
		case "no_system_messages":
			return nil, hint(err, "of another process OTP sets save_calls alone; every other flag a process sets itself, which only gen_server and the like can be asked to")
		case "no_answer":
			return nil, hint(err, "it sets the flag when it comes to the request, which stays in its mailbox")
		}
	}
	return nil, err
}
