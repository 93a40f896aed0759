package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/logs.erl
var logsSource []byte

//go:embed agent/logs.beam
var logsBeam []byte

var logsModule = newCompanion("logs", logsSource, logsBeam)

// LogLevels are the levels of OTP's logger, the most severe first.
var LogLevels = []string{"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"}

const (
	// DefaultLogRate is how many events a second a follower gets of each target.
	DefaultLogRate = 200
	// MaxLogRate bounds what may be asked for.
	MaxLogRate = 2000
	// maxLogWait is what may wait for a reader that is slow, of one target, in
	// messages of up to 64 events.
	maxLogWait, maxLogBytes = 4096, 8 << 20
)

// LogQuery asks for what targets log.
type LogQuery struct {
	Nodes       []string  // full names, or parts before @; empty means every target
	Level       string    // the least severe that is wanted, of LogLevels; default info
	Application string    // only events of this application's processes
	Process     string    // only those of this process: a pid or a registered name
	Rate        int       // events a second of each target; default DefaultLogRate
	Follow      bool      // go on with what is logged from now on; else only what is kept
	SetLevel    bool      // where the target's logger lets less through than Level, lower it meanwhile
	Since       time.Time // crash reports that are kept come first, those since then
}

// LogEvent is what a target's logger was told.
type LogEvent struct {
	Node           string
	Time           time.Time
	Level          string
	Pid            string // <0.1.2>; empty where it is not known
	RegisteredName string
	Application    string
	MFA            string // mod:fun/arity that logged
	File           string
	Line           uint64
	Message        string     // of several lines, as OTP writes it
	Report         *LogReport // nil where it is text alone
}

// LogReport is an event that has a structure. Terms are printed in the syntax of
// the target.
type LogReport struct {
	Kind        string // crash, terminate, supervisor, progress, or report for any other
	Name        string // of the process or supervisor
	Class       string // error, exit or throw
	Reason      string
	Stack       []Frame
	State       string
	LastMessage string
	Ancestors   []string
	Child       string     // of a supervisor, its id
	ChildPid    string     // <0.1.2>
	Fields      []KeyValue // all else
}

// crash tells whether the report is one of those that are kept.
func (r *LogReport) crash() bool {
	return r != nil && (r.Kind == "crash" || r.Kind == "terminate" || r.Kind == "supervisor")
}

// LogStart says that a target is being followed.
type LogStart struct {
	Node    string
	Primary string // the level of its logger, below which nothing is heard
	Lowered bool   // that level is set for those who follow, and will be put back
	Note    string // what a person should know; may be empty
}

// LogSink takes what targets log. Its methods are called by one goroutine at a
// time. A returned error ends the query.
type LogSink interface {
	Event(LogEvent) error
	Started(LogStart) error
	Dropped(node string, n uint64) error // events that were wanted and left out
	Failed(NodeError) error
}

// Logs hands out the crash reports that are kept and then, with Follow, what the
// targets log until ctx ends, which is not an error. Targets that are attached
// later are followed too.
func (m *Manager) Logs(ctx context.Context, q LogQuery, sink LogSink) error {
	q, err := checkLogs(q)
	if err != nil {
		return err
	}
	f := &logFollow{m: m, q: q, sink: sink, links: map[*node.Peer]bool{}}
	ctx, f.cancel = context.WithCancel(ctx)
	defer f.cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if !q.Since.IsZero() || !q.Follow {
		for _, e := range m.reports.since(q) {
			if err := sink.Event(e); err != nil {
				return err
			}
		}
	}
	for q.Follow {
		changed := m.links.Next()
		for t, link := range f.fresh() {
			wg.Go(func() { f.follow(ctx, t, link) })
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	f.cancel()
	wg.Wait()
	return f.err
}

func checkLogs(q LogQuery) (LogQuery, error) {
	if q.Level == "" {
		q.Level = "info"
	}
	if q.Rate == 0 {
		q.Rate = DefaultLogRate
	}
	switch {
	case !slices.Contains(LogLevels, q.Level):
		return q, hint(fmt.Errorf("follow logs of level %q: %w", q.Level, ErrBadQuery), "levels are %s", strings.Join(LogLevels, ", "))
	case q.Rate < 0 || q.Rate > MaxLogRate:
		return q, fmt.Errorf("follow %d events a second: %w: at most %d", q.Rate, ErrBadQuery, MaxLogRate)
	case looksLikePid(q.Process):
		if _, _, err := etf.ParsePid(q.Process); err != nil {
			return q, hint(fmt.Errorf("read process %q: %w", q.Process, ErrBadQuery), "a pid of a node looks like <0.123.0>")
		}
	}
	return q, nil
}

// logFollow is one call of Logs.
type logFollow struct {
	m      *Manager
	q      LogQuery
	cancel context.CancelFunc
	links  map[*node.Peer]bool // that have a goroutine; of Logs alone

	mu   sync.Mutex
	sink LogSink
	err  error // of the sink
}

// fresh returns the targets that are attached and not followed yet.
func (f *logFollow) fresh() map[*target]*node.Peer {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	out := map[*target]*node.Peer{}
	for _, t := range f.m.targets {
		link := t.attached()
		if link == nil || f.links[link] || !f.names(link.Name()) {
			continue
		}
		f.links[link] = true
		out[t] = link
	}
	for link := range f.links {
		select {
		case <-link.Done():
			delete(f.links, link)
		default:
		}
	}
	return out
}

func (f *logFollow) names(full string) bool {
	alive, _, _ := strings.Cut(full, "@")
	return len(f.q.Nodes) == 0 || slices.Contains(f.q.Nodes, full) || slices.Contains(f.q.Nodes, alive)
}

// tell calls the sink, unless that has failed.
func (f *logFollow) tell(call func(LogSink) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	if f.err = call(f.sink); f.err != nil {
		f.cancel()
	}
}

// follow follows one target until the connection or ctx ends.
func (f *logFollow) follow(ctx context.Context, t *target, link *node.Peer) {
	said := ""
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := f.session(ctx, t, link)
		if ctx.Err() != nil {
			return
		}
		// Where the server on the target ends, the connection may be about to.
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-link.Done():
			timer.Stop()
			f.tell(func(s LogSink) error {
				return s.Failed(NodeError{link.Name(), fmt.Errorf("follow the log of %s: the connection has ended: %w", link.Name(), ErrNotAttached)})
			})
			return
		case <-timer.C:
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			f.tell(func(s LogSink) error { return s.Failed(NodeError{link.Name(), err}) })
		}
	}
}

// session follows one target until the server there ends.
func (f *logFollow) session(ctx context.Context, t *target, link *node.Peer) error {
	inbox := f.m.cfg.Node.NewMailboxWith(node.MailboxOptions{Messages: maxLogWait, Bytes: maxLogBytes, Drop: true})
	defer inbox.Close()
	server, start, err := f.subscribe(ctx, t, link, inbox.Pid())
	if err != nil {
		return err
	}
	if _, err := inbox.Monitor(server); err != nil {
		return err
	}
	f.tell(func(s LogSink) error { return s.Started(start) })
	print := printOptions(ctx, t, link, InspectQuery{ElixirGuess: true})
	reader := &logReader{rows: t.rows(link), print: print}
	var dropped uint64
	for {
		msg, err := inbox.Receive(ctx)
		switch {
		case err != nil:
			return err
		case msg.Kind == node.Down:
			return fmt.Errorf("follow the log of %s: what follows it there has ended", link.Name())
		case msg.Kind != node.Send || msg.Node != link.Name():
			continue
		}
		term, _ := msg.Term() // nil is no message of the companion
		events, lost, ok := reader.message(term)
		f.take(t, link, events, lost)
		// How many were in a message that is missing, the next one tells.
		if n := inbox.Dropped(); n != dropped || !ok {
			dropped = n
			if err := inbox.Send(server, etf.Tuple{etf.Atom("sums"), inbox.Pid()}); err != nil {
				return err
			}
		}
	}
}

// take hands out what one message of a target has told.
func (f *logFollow) take(t *target, link *node.Peer, events []LogEvent, lost uint64) {
	t.cost.note(func(c *Cost) {
		c.LogEvents += uint64(len(events))
		c.LogDropped += lost
	})
	for _, e := range events {
		f.m.reports.keep(e)
		f.tell(func(s LogSink) error { return s.Event(e) })
	}
	if lost > 0 {
		f.tell(func(s LogSink) error { return s.Dropped(link.Name(), lost) })
	}
}

// subscribe has the target send what it logs to host.
func (f *logFollow) subscribe(ctx context.Context, t *target, link *node.Peer, host etf.Pid) (server etf.Pid, start LogStart, err error) {
	ctx, cancel := f.m.deadline(ctx, 0, 0)
	defer cancel()
	reply, err := t.companionCall(ctx, link, logsModule, "follow", host, f.spec(link))
	switch {
	case errors.Is(err, errNoAgent):
		return server, start, hint(fmt.Errorf("follow the log of %s: %w", link.Name(), errNoAgent), "a handler of the logger is code on the node: [targets] agent must not be \"never\", and the node must allow code to be loaded")
	case err != nil:
		return server, start, err
	}
	e, ok := reply.(etf.Tuple)
	if ok && len(e) == 2 && atom(e[1]) == "too_many" {
		return server, start, fmt.Errorf("follow the log of %s: too many follow it already", link.Name())
	}
	if ok = ok && len(e) == 5; ok {
		server, ok = e[1].(etf.Pid)
	}
	if !ok {
		return server, start, fmt.Errorf("follow the log of %s: got %s", link.Name(), printed(reply))
	}
	start = LogStart{Node: link.Name(), Primary: atom(e[2]), Lowered: atom(e[3]) == "true"}
	switch {
	case atom(e[4]) != "true":
		start.Note = fmt.Sprintf("application %s does not run on %s now", f.q.Application, link.Name())
	case quieter(start.Primary, f.q.Level):
		start.Note = fmt.Sprintf("the logger of %s lets through %s and above only, not %s; --set-level lowers that", link.Name(), start.Primary, f.q.Level)
	}
	return server, start, nil
}

// quieter tells whether a logger of that primary level keeps back events of level.
func quieter(primary, level string) bool {
	i := slices.Index(LogLevels, primary)
	return primary == "none" || i >= 0 && i < slices.Index(LogLevels, level)
}

// spec is the query as the companion reads it.
func (f *logFollow) spec(link *node.Peer) etf.Term {
	q := f.q
	spec := etf.Map{
		{Key: etf.Atom("level"), Value: etf.Atom(q.Level)},
		{Key: etf.Atom("rate"), Value: etf.Int(q.Rate)},
	}
	add := func(key etf.Atom, value etf.Term) { spec = append(spec, etf.Pair{Key: key, Value: value}) }
	if q.SetLevel {
		add("set_level", etf.Atom("true"))
	}
	if q.Application != "" {
		add("application", etf.Binary(q.Application))
	}
	if id, serial, err := etf.ParsePid(q.Process); err == nil {
		add("pid", link.Pid(id, serial))
	} else if q.Process != "" {
		var names etf.List
		for _, n := range registeredNames(q.Process) {
			names = append(names, etf.Binary(n))
		}
		add("names", names)
	}
	return spec
}
