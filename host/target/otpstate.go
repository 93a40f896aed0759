package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/otp.erl
var otpSource []byte

//go:embed agent/otp.beam
var otpBeam []byte

var otpModule = newCompanion("otp", otpSource, otpBeam)

// Bounds of one answer about a state.
const (
	MaxStateDepth = 20
	MaxStateWidth = 1000
	// stateRoom is about how many bytes of terms the tree of one answer may have
	// on the wire.
	stateRoom = 40_000
	// stateText is the same of the text of the whole part.
	stateText = 16_000
)

// StateQuery asks for the state of one process that knows OTP's system messages.
type StateQuery struct {
	Node        string
	Process     string // as in InspectQuery
	Path        string // the part that is wanted, as the help of `debughost state` says; empty means all
	Depth       int    // levels of parts below that; default 2
	Width       int    // parts of each level; default 30
	Offset      int    // parts of the first level to leave out at its beginning
	MaxBytes    int    // where the text of the whole is cut; default 4096
	Elixir      bool   // as in InspectQuery
	ElixirGuess bool
	Force       bool // also of a large process, and of one that does not look as if it knew system messages
	Timeout     time.Duration
}

// ProcessState is the state of one process, or a part of it.
type ProcessState struct {
	Node            string
	Pid             string
	RegisteredName  string
	Behaviour       string // gen_server, gen_statem, supervisor, GenServer, Agent, Phoenix.LiveView, …
	Module          string // whose callbacks it runs, where that is known
	InitialCall     string
	Memory          uint64 // bytes
	MessageQueueLen uint64
	Path            string // the part that is shown
	Text            string // of that part
	Truncated       bool
	Tree            StateNode
}

// StateNode is a part of a term.
type StateNode struct {
	Kind      string // list, tuple, map, struct, binary, atom, …
	Key       string // by which its parent has it: a key, a name, or empty
	Path      string // as StateQuery has it; empty where its key is too large for one
	Size      uint64 // bytes, with the binaries it refers to; what is shared counts each time
	Text      string
	Truncated bool // Text is not all
	Children  []StateNode
	More      uint64 // children beside those
}

// State asks a process for its state, which is cut on its own node.
func (m *Manager) State(ctx context.Context, q StateQuery) (ProcessState, error) {
	path, err := parsePath(q.Path)
	if err != nil {
		return ProcessState{}, err
	}
	limit := func(n *int, usual, most int) { *n = min(orDefault(*n, usual), most) }
	limit(&q.Depth, 2, MaxStateDepth)
	limit(&q.Width, 30, MaxStateWidth)
	limit(&q.MaxBytes, 4096, 64<<10)
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return ProcessState{}, err
	}
	pid, err := t.process(ctx, link, q.Process, false)
	if err != nil {
		return ProcessState{}, err
	}
	tried := fmt.Sprintf("show the state of %s on %s", pidText(pid), link.Name())
	if err := t.extend(ctx, link, otpModule); err != nil { // before the time is divided
		return ProcessState{}, t.otpError(tried, err)
	}
	limits := mayCopy(q.Force)
	spec := etf.Map{
		{Key: etf.Atom("path"), Value: path},
		{Key: etf.Atom("depth"), Value: etf.Int(q.Depth)},
		{Key: etf.Atom("width"), Value: etf.Int(q.Width)},
		{Key: etf.Atom("offset"), Value: etf.Int(max(0, q.Offset))},
		{Key: etf.Atom("room"), Value: etf.Int(stateRoom)},
		{Key: etf.Atom("text"), Value: etf.Int(min(q.MaxBytes, stateText))},
		{Key: etf.Atom("timeout"), Value: etf.Int(sysTimeout(ctx))},
		{Key: etf.Atom("limit"), Value: etf.Int(limits)},
		{Key: etf.Atom("force"), Value: etf.Atom(strconv.FormatBool(q.Force))},
	}
	reply, err := t.companionCall(ctx, link, otpModule, "state", pid, spec)
	if err != nil {
		return ProcessState{}, t.otpError(tried, err)
	}
	r := &stateReader{
		q: q, print: printOptions(ctx, t, link, InspectQuery{Elixir: q.Elixir, ElixirGuess: q.ElixirGuess, MaxBytes: q.MaxBytes}),
		calls: t.rows(link), offset: max(0, q.Offset),
	}
	if err := r.refused(tried, reply); err != nil {
		return ProcessState{}, err
	}
	out, err := r.state(reply)
	if err != nil {
		return ProcessState{}, fmt.Errorf("%s: %w", tried, err)
	}
	out.Node, out.Pid = link.Name(), pidText(pid)
	if info, err := t.processInfo(ctx, link, pid, []etf.Atom{"registered_name"}); err == nil {
		out.RegisteredName = atom(info["registered_name"])
	}
	t.shown.note(pid)
	return out, nil
}

func orDefault(n, usual int) int {
	if n <= 0 {
		return usual
	}
	return n
}

// mayCopy is how large a process may be, in bytes, for what it holds to be
// copied within the target.
func mayCopy(force bool) uint64 {
	if force {
		return 1 << 40
	}
	return agentCopy
}

// sysTimeout is how long the node waits for the process, in milliseconds: less
// than the caller waits for the node.
func sysTimeout(ctx context.Context) int64 {
	left := 5 * time.Second
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	return max(50, (left - left/5).Milliseconds())
}

// otpError is the error of a call of the companion itself.
func (t *target) otpError(tried string, err error) error {
	var remote *node.CallError
	switch {
	case errors.Is(err, errNoAgent):
		return hint(fmt.Errorf("%s: %w", tried, errNoAgent), "it is what cuts terms on the node; `debughost targets -o json` says why it is not used, [targets] agent allows it")
	case errors.As(err, &remote) && remote.Class == node.ClassSignal:
		return hint(fmt.Errorf("%s: the node ended the helper's worker: %w", tried, err), "the copy of the state took more memory than it may, perhaps since parts of it are shared; --force allows more")
	}
	return fmt.Errorf("%s: %w", tried, err)
}

// stateReader reads what the companion tells.
type stateReader struct {
	q      StateQuery
	print  etf.PrintOptions
	calls  *rowReader
	offset int
}

// refused makes an error of an answer that is none.
func (r *stateReader) refused(tried string, reply etf.Term) error {
	if atom(reply) == "undefined" {
		return fmt.Errorf("%s: %w: it has ended", tried, ErrNoProcess)
	}
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) < 2 {
		return fmt.Errorf("%s: got %s", tried, printed(reply))
	}
	info, _ := e[1].(etf.Tuple)
	current := func() string {
		if len(info) != 7 {
			return "?"
		}
		return r.calls.mfa(info[6])
	}
	switch atom(e[0]) {
	case "ok":
		return nil
	case "large":
		return hint(fmt.Errorf("%s: %w: the process has %d MB, and showing it would copy them", tried, ErrLarge, count(e[1])>>20), "--force does it all the same")
	case "no_system_messages":
		return hint(fmt.Errorf("%s: %w: it does not handle system messages (it is in %s)", tried, ErrNoState, current()),
			"only gen_server, gen_statem, gen_event, supervisors and the like do; `debughost inspect` shows its stack and dictionary. --force asks it all the same: the message may stay in its mailbox")
	case "no_answer":
		why, advice := "it is busy in "+current(), "--timeout waits longer; `debughost inspect` shows its stack"
		if len(info) == 7 && atom(info[5]) == "suspended" {
			why, advice = "it is suspended", "`debughost resume` lets it go on, if debughost has suspended it"
		}
		return hint(fmt.Errorf("%s: %w: %s, and %d messages wait", tried, ErrTimeout, why, infoCount(info, 4)), "%s", advice)
	case "failed":
		if len(e) == 3 {
			return fmt.Errorf("%s: %w: the process answered with an error: %s", tried, ErrNoState, text(e[2]))
		}
	case "no_part":
		if len(e) == 4 {
			return hint(fmt.Errorf("%s: %w: step %d of the path %s leads nowhere: what it is taken in is of kind %s", tried, ErrBadQuery, count(e[2]), r.q.Path, atom(e[3])),
				"`debughost state` without the path, or with less of it, shows which parts there are")
		}
	}
	return fmt.Errorf("%s: got %s", tried, printed(reply))
}

func infoCount(info etf.Tuple, i int) uint64 {
	if i >= len(info) {
		return 0
	}
	return count(info[i])
}

// state reads {ok, {Behaviour, Module, Call, Memory, Len, Status, Current}, Taken, Text, Node}.
func (r *stateReader) state(reply etf.Term) (ProcessState, error) {
	bad := func() (ProcessState, error) { return ProcessState{}, fmt.Errorf("got %s", printed(reply)) }
	e, ok := reply.(etf.Tuple)
	if !ok || len(e) != 5 {
		return bad()
	}
	info, ok := e[1].(etf.Tuple)
	taken, isList := etf.Elements(e[2])
	if !ok || !isList || len(info) != 7 {
		return bad()
	}
	out := ProcessState{
		Behaviour: strings.TrimPrefix(atom(info[0]), "Elixir."), Module: atom(info[1]), InitialCall: r.calls.mfa(info[2]),
		Memory: count(info[3]), MessageQueueLen: count(info[4]),
	}
	if out.Behaviour == "none" {
		out.Behaviour = ""
	}
	for _, step := range taken {
		out.Path += r.step(step)
	}
	var err error
	if out.Tree, err = r.node(e[4], out.Path, true); err != nil {
		return ProcessState{}, err
	}
	var cut bool
	out.Text, cut = etf.FormatCut(markLast(e[3]), r.print)
	if out.Truncated = cut || out.Tree.Truncated && out.Text != out.Tree.Text; out.Truncated {
		out.Text = unmarked(out.Text)
	}
	return out, nil
}

// step is one that the companion took: {k, Key, Cut}, {e, N}, {i, N}. Empty: its
// key is cut, and nobody can write it.
func (r *stateReader) step(t etf.Term) string {
	e, _ := t.(etf.Tuple)
	switch {
	case len(e) == 3 && atom(e[2]) != "true":
		return keyPath(e[1], r.print)
	case len(e) == 2 && atom(e[0]) == "e":
		return fmt.Sprintf("{%d}", count(e[1]))
	case len(e) == 2:
		return fmt.Sprintf("[%d]", count(e[1]))
	}
	return ""
}

// node reads {Kind, Bytes, Head, Cut, Count, [{Step, Node, Label}]}.
func (r *stateReader) node(t etf.Term, path string, root bool) (StateNode, error) {
	e, ok := t.(etf.Tuple)
	if !ok || len(e) != 6 {
		return StateNode{}, fmt.Errorf("got %s", printed(t))
	}
	parts, ok := etf.Elements(e[5])
	if !ok {
		return StateNode{}, fmt.Errorf("got %s", printed(t))
	}
	n := StateNode{Kind: atom(e[0]), Path: path, Size: count(e[1])}
	o := r.print
	o.MaxBytes = 500
	n.Text, n.Truncated = etf.FormatCut(markLast(e[2]), o)
	if atom(e[3]) == "true" {
		n.Truncated = true
		n.Text = unmarked(n.Text)
	}
	for _, p := range parts {
		part, ok := p.(etf.Tuple)
		if !ok || len(part) != 3 {
			return StateNode{}, fmt.Errorf("got %s", printed(p))
		}
		step := r.step(part[0])
		below := path + step
		if step == "" || path == "" && !root {
			below = ""
		}
		child, err := r.node(part[1], below, false)
		if err != nil {
			return StateNode{}, err
		}
		child.Key = r.key(part[0], part[2])
		n.Children = append(n.Children, child)
	}
	left := count(e[4])
	if root {
		left -= min(left, uint64(r.offset))
	}
	n.More = left - min(left, uint64(len(n.Children)))
	return n, nil
}

// key is how a part is called beside its number.
func (r *stateReader) key(step, label etf.Term) string {
	if name := atom(label); name != "none" {
		return name
	}
	if e, ok := step.(etf.Tuple); ok && len(e) == 3 {
		o := r.print
		o.MaxBytes = 200
		return etf.Format(e[1], o)
	}
	return ""
}

// markLast puts the entry that stands for what was left out of a map to its end.
func markLast(t etf.Term) etf.Term {
	switch t := t.(type) {
	case etf.List:
		for i := range t {
			t[i] = markLast(t[i])
		}
	case etf.Tuple:
		for i := range t {
			t[i] = markLast(t[i])
		}
	case etf.Map:
		for i := range t {
			t[i].Value = markLast(t[i].Value)
		}
		if i := slices.IndexFunc(t, func(p etf.Pair) bool { return atom(p.Key) == "..." }); i >= 0 {
			return append(slices.Delete(t, i, i+1), etf.Pair{Key: etf.Atom("..."), Value: etf.Atom("...")})
		}
	}
	return t
}

// unmarked writes what the helper left out, and marked by the atom '...', as
// people do.
func unmarked(s string) string {
	return marks.Replace(s)
}

var marks = strings.NewReplacer("'...' => '...'", "...", "...: :...", "...", ":... => :...", "...", "'...'", "...", ":...", "...")
