//go:build unix

package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Options say how to keep commands.
type Options struct {
	// Dir is the state directory, which is the keeper's alone. Clients with the
	// same one share a keeper.
	Dir string
	// Path is the PATH of commands. Empty is that of this process.
	Path string
	// Log takes what the keeper has to say, now and then.
	Log func(warn bool, id, text string)
	// Idle is how long a keeper stays that has nothing to keep; default 30 s.
	Idle time.Duration
	// PluginOnly has commands be orphans when this client is gone, though its host may
	// not be.
	PluginOnly bool
	// NoNamespace, NoCgroup and NoTrace do without what the system may allow.
	NoNamespace, NoCgroup, NoTrace bool
}

// Client runs commands through a keeper, which it starts when it is needed, and
// again when it was killed. It is safe for concurrent use. It knows the commands
// that it created or recovered; of others its methods answer sdk.ErrNotFound.
type Client struct {
	o       Options
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	work    sync.WaitGroup
	givenUp sync.WaitGroup // creates that nobody waits for any more

	connecting chan struct{} // a lock that can be waited for with a context

	mu      sync.Mutex
	session *session // nil without a connection
	boxes   map[string]*box
	early   map[string]sdk.SandboxExit // of tokens that are not known yet
}

// box is a command, to a client.
type box struct {
	id, token, dir string
	exited         chan struct{}
	exit           sdk.SandboxExit // once exited is closed
	last           Status          // as it was seen last
}

func (b *box) hasExited() bool {
	select {
	case <-b.exited:
		return true
	default:
		return false
	}
}

// New makes a client. It starts nothing.
func New(o Options) *Client {
	if o.Path == "" {
		o.Path = os.Getenv("PATH")
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = func(bool, string, string) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{o: o, ctx: ctx, cancel: cancel, connecting: make(chan struct{}, 1), boxes: make(map[string]*box), early: make(map[string]sdk.SandboxExit)}
}

// Close disconnects. What runs goes on until it is orphaned for too long; what
// was being created for somebody who gave up does not.
func (c *Client) Close() error {
	done := make(chan struct{})
	go func() { defer close(done); c.givenUp.Wait() }()
	select {
	case <-done:
	case <-time.After(closeTime):
	}
	c.cancel()
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil {
		s.close()
	}
	c.work.Wait()
	return nil
}

// closeTime is less than what a plugin has for its end.
const closeTime = time.Second

// Tidy clears up after a keeper that was killed with all its clients, if there
// was one.
func (c *Client) Tidy(ctx context.Context) error {
	if len(leftovers(c.o.Dir)) == 0 {
		return nil
	}
	_, err := c.connect(ctx)
	return err
}

// Create runs a command. Its result tells it from others that will have the same
// id, for Recover.
func (c *Client) Create(ctx context.Context, spec Spec) (token string, err error) {
	if err := spec.check(); err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	spec.Env = append([]string{"PATH=" + c.o.Path}, spec.Env...)
	var st *Status
	for attempt := 0; ; attempt++ {
		st, err = c.create(ctx, spec)
		// A keeper that was killed meanwhile may have run it, but keeps it no more.
		if attempt < 2 && (errors.Is(err, errLost) || errors.Is(err, errEnding)) && ctx.Err() == nil {
			if errors.Is(err, errLost) && c.box(spec.ID) == nil {
				_, _ = c.ask(ctx, request{Op: opDestroy, ID: spec.ID})
			}
			if spec.Home != "" {
				if _, moved := os.Lstat(spec.Home); moved != nil {
					break // with what it was to begin with
				}
			}
			continue
		}
		break
	}
	if err != nil {
		return "", err
	}
	c.know(spec.ID, st)
	if v := spec.View; v != nil && v.Required && st.Enforced[viewKey] == "" {
		err := fmt.Errorf("create %s: its keeper is of an older program, which cannot shut it in", spec.ID)
		return "", errors.Join(err, c.Destroy(ctx, spec.ID))
	}
	return st.Token, nil
}

func (c *Client) create(ctx context.Context, spec Spec) (*Status, error) {
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.send(request{Op: opCreate, Spec: &spec})
	if err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m.Status, m.Error.err()
	case <-s.ended:
		return nil, errLost
	case <-ctx.Done():
	}
	// Nobody will know of it.
	c.givenUp.Go(func() {
		select {
		case m := <-answer:
			if m.Error == nil {
				_, _ = c.ask(c.ctx, request{Op: opDestroy, ID: spec.ID})
			}
		case <-s.ended:
		}
	})
	return nil, ctx.Err()
}

// background does something that Close waits for, unless it is too late.
func (c *Client) background(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil {
		c.work.Go(f)
	}
}

// know makes a command known, with what its keeper says of it.
func (c *Client) know(id string, st *Status) *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boxes[id]
	if b == nil || b.token != st.Token {
		b = &box{id: id, token: st.Token, dir: st.Dir, exited: make(chan struct{})}
		c.boxes[id] = b
	}
	b.last = *st
	exit := st.Exit
	if early, ok := c.early[st.Token]; ok && exit == nil {
		exit = &early
	}
	delete(c.early, st.Token)
	if exit != nil {
		b.end(*exit)
	}
	return b
}

// end notes how a command ended, once. The caller holds the lock.
func (b *box) end(exit sdk.SandboxExit) {
	if !b.hasExited() {
		b.exit = exit
		close(b.exited)
	}
}

// exited takes an event.
func (c *Client) exited(e *exitEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.boxes[e.ID]; b != nil && b.token == e.Token {
		b.end(e.Exit)
		return
	}
	if len(c.early) < 1<<16 {
		c.early[e.Token] = e.Exit // comes before the answer to its Create
	}
}

func (c *Client) box(id string) *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boxes[id]
}

func (c *Client) find(id string) (*box, error) {
	if b := c.box(id); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("find %.140s: %w", id, sdk.ErrNotFound)
}

// Inspect tells what is known of a command.
func (c *Client) Inspect(ctx context.Context, id string) (Status, error) {
	b, err := c.find(id)
	if err != nil {
		return Status{}, err
	}
	for {
		if b.hasExited() {
			st := b.last
			st.State, st.Exit, st.OSPid, st.Memory = sdk.SandboxExited, &b.exit, 0, 0
			return st, nil
		}
		m, err := c.ask(ctx, request{Op: opInspect, ID: id})
		switch {
		case errors.Is(err, sdk.ErrNotFound): // somebody else destroyed it
			c.mu.Lock()
			b.end(sdk.SandboxExit{Signal: 9, Reason: "destroyed through another client of its keeper", At: time.Now()})
			c.mu.Unlock()
		case err != nil:
			return Status{}, err
		default:
			c.know(id, m.Status)
			return *m.Status, nil
		}
		if c.box(id) != b {
			return Status{}, fmt.Errorf("find %s: %w", id, sdk.ErrNotFound)
		}
	}
}

// Wait returns when the command has exited.
func (c *Client) Wait(ctx context.Context, id string) (sdk.SandboxExit, error) {
	b, err := c.find(id)
	if err != nil {
		return sdk.SandboxExit{}, err
	}
	select {
	case <-b.exited:
		return b.exit, nil
	case <-ctx.Done():
		return sdk.SandboxExit{}, ctx.Err()
	}
}

// Stop asks the command to end, kills it after the timeout, and returns when it
// has exited.
func (c *Client) Stop(ctx context.Context, id string, timeout time.Duration) error {
	b, err := c.find(id)
	if err != nil || b.hasExited() {
		return err
	}
	if _, err := c.ask(ctx, request{Op: opStop, ID: id, Timeout: timeout}); err != nil && !b.hasExited() {
		return err
	}
	_, err = c.Wait(ctx, id)
	return err
}

// Destroy leaves nothing of the command, known or not.
func (c *Client) Destroy(ctx context.Context, id string) error {
	if !idSyntax.MatchString(id) {
		return nil
	}
	if _, err := os.Lstat(childDir(c.o.Dir, id)); err == nil || c.box(id) != nil {
		if _, err := c.ask(ctx, request{Op: opDestroy, ID: id}); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.boxes[id]; b != nil {
		delete(c.boxes, id)
		b.end(sdk.SandboxExit{Signal: 9, Reason: "destroyed", At: time.Now()})
	}
	return nil
}

// Recover makes a command known that another client created.
func (c *Client) Recover(ctx context.Context, id, token string) error {
	if b := c.box(id); b != nil && b.token == token {
		return nil
	}
	if _, err := os.Lstat(childDir(c.o.Dir, id)); err != nil || !idSyntax.MatchString(id) {
		return fmt.Errorf("recover %.140s: %w", id, sdk.ErrNotFound)
	}
	m, err := c.ask(ctx, request{Op: opRecover, ID: id, Token: token})
	if err != nil {
		return err
	}
	c.know(id, m.Status)
	return nil
}

// Logs emits the lines of the command's log.
func (c *Client) Logs(ctx context.Context, id string, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
	b, err := c.find(id)
	if err != nil {
		return err
	}
	return readLog(ctx, b.dir, o, emit)
}
