package target

import (
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
)

//go:embed agent/remsh.erl
var remshSource []byte

//go:embed agent/remsh.beam
var remshBeam []byte

var remshModule = newCompanion("remsh", remshSource, remshBeam)

const (
	// MaxShellLine bounds one line of input, in bytes.
	MaxShellLine = 64 << 10
	// shellBytes bounds what waits for the person to read it. The target sends no
	// more than 128 KiB and the rest of one request of 1 MiB ahead.
	shellBytes = 8 << 20
	// goodbye is what a shell gets to end in when nobody wants it any more.
	goodbye = time.Second
)

// ShellQuery asks a target for a shell.
type ShellQuery struct {
	Node          string
	Language      string // LanguageAuto by default
	Columns, Rows int    // of the terminal; 0 where there is none
	Timeout       time.Duration
}

// ShellInput is what a person does at a shell: one of its kinds.
type ShellInput struct {
	Kind          ShellInputKind
	Line          string // InputLine, with its line end; InputComplete: what is before the cursor
	ID            uint32 // InputComplete: comes back with the answer
	Columns, Rows int    // InputSize
}

// ShellInputKind is a kind of ShellInput.
type ShellInputKind uint8

// The kinds of input.
const (
	InputLine      ShellInputKind = iota + 1
	InputInterrupt                // ends the evaluation under way, or the half expression
	InputComplete
	InputSize
)

// ShellOutput is what a shell says: one of its kinds.
type ShellOutput struct {
	Kind     ShellOutputKind
	Node     string   // OutputStarted: the full name
	Language string   // OutputStarted: of the shell that runs
	Text     string   // OutputText, OutputRead: the prompt, OutputCompletions: what to insert
	Wanted   string   // OutputRead: expression, line or password
	More     bool     // OutputRead: the lines before did not suffice
	ID       uint32   // OutputCompletions
	Matches  []string // OutputCompletions
}

// ShellOutputKind is a kind of ShellOutput.
type ShellOutputKind uint8

// The kinds of output. OutputRead asks for a line; until one comes, others may
// print.
const (
	OutputStarted ShellOutputKind = iota + 1
	OutputText
	OutputRead
	OutputCompletions
)

// Shell runs the target's own shell, IEx or Erlang's, for a person who sends
// input and takes output, until the shell ends, ctx does, in is closed, or out
// fails. Nothing of it is left on the target then, nor when the connection or
// this process ends.
func (m *Manager) Shell(ctx context.Context, q ShellQuery, in <-chan ShellInput, out func(ShellOutput) error) error {
	language, err := languageOf(q.Language)
	if err != nil {
		return err
	}
	t, link, err := m.one(q.Node)
	if err != nil {
		return err
	}
	tried := "open shell on " + link.Name()
	inbox := m.cfg.Node.NewMailboxWith(node.MailboxOptions{Messages: 100_000, Bytes: shellBytes})
	defer inbox.Close()
	s := &shell{link: link, inbox: inbox, out: out}
	used, err := s.start(ctx, t, language, q)
	switch {
	case errors.Is(err, errNoAgent):
		return needsHelper("open shell", link, "it is the shell's terminal")
	case err != nil:
		return fmt.Errorf("%s: %w", tried, err)
	}
	t.report()
	m.cfg.Publish(events.Event{Type: events.ShellOpened, Node: link.Name(), Member: m.cfg.Member, Fields: map[string]string{"language": used}})
	err = s.out(ShellOutput{Kind: OutputStarted, Node: link.Name(), Language: used})
	if err == nil {
		err = s.run(ctx, in)
	}
	e := events.Event{Type: events.ShellClosed, Node: link.Name(), Member: m.cfg.Member}
	if err != nil {
		e.Reason = err.Error()
	}
	m.cfg.Publish(e)
	return err
}

// shell is one that runs.
type shell struct {
	link   *node.Peer
	inbox  *node.Mailbox
	leader etf.Pid
	out    func(ShellOutput) error
}

// start starts the leader, again where the modules were taken away meanwhile: a
// leader that did not get to say that it is ready has started no shell, or has
// ended it with itself.
func (s *shell) start(ctx context.Context, t *target, language etf.Term, q ShellQuery) (used string, err error) {
	ctx, cancel := t.m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	size := etf.Tuple{etf.Int(q.Columns), etf.Int(q.Rows)}
	for tries := 0; ; tries++ {
		reply, err := t.companionCall(ctx, s.link, remshModule, "start", etf.Atom(agentModule), s.inbox.Pid(), language, size)
		if err != nil {
			return "", err
		}
		e, ok := reply.(etf.Tuple)
		if ok && len(e) == 3 && atom(e[0]) == "ok" {
			if s.leader, ok = e[1].(etf.Pid); ok {
				_, err := s.inbox.Monitor(s.leader)
				return atom(e[2]), err
			}
		}
		switch {
		case ok && len(e) == 2 && atom(e[1]) == "no_elixir":
			return "", hint(fmt.Errorf("start: %w: the node does not have IEx", ErrNotHere), "--erlang does without it")
		case tries == 2:
			return "", fmt.Errorf("got %s", printed(reply))
		}
		t.agent.reset()
	}
}

// run passes on what is said on both sides. One goroutine has the input; run
// waits for it.
func (s *shell) run(ctx context.Context, in <-chan ShellInput) error {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.input(ctx, cancel, in)
	}()
	err := s.output(ctx)
	cancel(nil)
	<-done
	return err
}

// errHungUp ends a shell whose person has gone; that is no error.
var errHungUp = errors.New("the person has gone")

func (s *shell) input(ctx context.Context, cancel context.CancelCauseFunc, in <-chan ShellInput) {
	for {
		select {
		case <-ctx.Done():
			return
		case i, ok := <-in:
			if !ok {
				cancel(errHungUp)
				return
			}
			if err := s.tell(i); err != nil {
				cancel(err)
				return
			}
		}
	}
}

func (s *shell) tell(i ShellInput) error {
	switch i.Kind {
	case InputLine:
		return s.send(etf.Tuple{etf.Atom("line"), etf.Binary(i.Line)})
	case InputInterrupt:
		return s.send(etf.Atom("interrupt"))
	case InputComplete:
		return s.send(etf.Tuple{etf.Atom("complete"), etf.Int(i.ID), etf.Binary(i.Line)})
	case InputSize:
		return s.send(etf.Tuple{etf.Atom("size"), etf.Int(i.Columns), etf.Int(i.Rows)})
	}
	return nil
}

func (s *shell) send(msg etf.Term) error {
	return s.inbox.Send(s.leader, etf.Tuple{s.inbox.Pid(), msg})
}

// output returns nil when the shell has ended by itself or the person has gone.
func (s *shell) output(ctx context.Context) error {
	for {
		msg, err := s.inbox.Receive(ctx)
		switch {
		case err != nil && errors.Is(context.Cause(ctx), errHungUp):
			s.hangUp()
			return nil
		case err != nil && ctx.Err() != nil:
			s.hangUp()
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("shell on %s: %w", s.link.Name(), err)
		case msg.Kind == node.Down:
			return s.lost(msg)
		case msg.Kind != node.Send:
			continue
		}
		term, err := msg.Term()
		if err != nil {
			return fmt.Errorf("shell on %s: %w", s.link.Name(), err)
		}
		ended, err := s.said(term)
		if ended || err != nil {
			return err
		}
	}
}

// hangUp gives the leader a moment to end the shell, so that nothing of it is
// there when Shell returns.
func (s *shell) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if s.send(etf.Atom("goodbye")) != nil {
		return
	}
	for {
		msg, err := s.inbox.Receive(ctx)
		if err != nil || msg.Kind == node.Down {
			return
		}
	}
}

// lost is the end of the leader without a word.
func (s *shell) lost(msg node.Message) error {
	reason, _ := msg.Term()
	if err := s.link.Err(); atom(reason) == "noconnection" {
		return fmt.Errorf("shell on %s: the connection ended: %w", s.link.Name(), err)
	}
	return fmt.Errorf("shell on %s: its group leader ended: %s", s.link.Name(), printed(reason))
}

// said takes {Leader, Msg}; anybody else's messages, and what is not understood,
// are passed over.
func (s *shell) said(term etf.Term) (ended bool, err error) {
	e, ok := term.(etf.Tuple)
	if !ok || len(e) != 2 || e[0] != etf.Term(s.leader) {
		return false, nil
	}
	msg, ok := e[1].(etf.Tuple)
	if !ok || len(msg) < 2 {
		return false, nil
	}
	switch kind := atom(msg[0]); {
	case kind == "output" && len(msg) == 2:
		b := text(msg[1])
		if err := s.out(ShellOutput{Kind: OutputText, Text: b}); err != nil {
			return false, err
		}
		return false, s.send(etf.Tuple{etf.Atom("ack"), etf.Int(len(b))})
	case kind == "read" && len(msg) == 4:
		return false, s.out(ShellOutput{Kind: OutputRead, Wanted: atom(msg[1]), Text: text(msg[2]), More: atom(msg[3]) == "true"})
	case kind == "completions" && len(msg) == 4:
		return false, s.out(completions(msg))
	case kind == "ended":
		reason := text(msg[1])
		if reason == "normal" {
			return true, nil
		}
		return true, fmt.Errorf("shell on %s: it ended: %s", s.link.Name(), reason)
	}
	return false, nil
}

// completions reads {completions, ID, Insert, Matches}.
func completions(msg etf.Tuple) ShellOutput {
	o := ShellOutput{Kind: OutputCompletions, ID: uint32(count(msg[1])), Text: text(msg[2])}
	words, _ := etf.Elements(msg[3])
	for _, w := range words {
		o.Matches = append(o.Matches, text(w))
	}
	return o
}
