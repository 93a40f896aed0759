package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

// tableRef marks the messages of one table. Each table has an inbox of its own,
// so the mark need not be unique.
const tableRef = etf.Atom("rows")

// tableTime bounds a whole table, for which no time was given, beside the pause
// between two of its parts: ten million processes take less.
const tableTime = 2 * time.Minute

// table has the agent send all rows in chunks and hands them on as they come.
// A reader that is slow slows the walk down, on the target too: no more than a
// few chunks are ever under way.
func (t *target) table(ctx context.Context, link *node.Peer, q ProcessQuery, c *collector) error {
	inbox := t.m.cfg.Node.NewMailbox(16)
	defer inbox.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// A walk that rests for most of the time takes longer from part to part.
	pause := min(t.m.cfg.CallTimeout*100/time.Duration(t.m.budget().Share), tableTime)
	idle := time.AfterFunc(pause, func() { end(ErrTimeout) })
	defer idle.Stop()

	if err := t.walks.enter(ctx); err != nil {
		return t.noRoom(ctx, link)
	}
	idle.Stop()
	if err := t.pace(ctx, link); err != nil {
		t.walks.leave()
		return err
	}
	idle.Reset(pause)
	read := make(chan struct{})
	var readErr error // once read is closed
	go func() {
		defer close(read)
		readErr = t.chunks(ctx, link, inbox, c, idle, pause)
		end(readErr)
	}()
	reply, err := t.agentCall(ctx, link, "table", inbox.Pid(), tableRef, t.spec(link, q))
	t.walks.leave() // before the reader is waited for, who may have stopped
	cause := context.Cause(ctx)
	end(nil)
	<-read
	switch {
	case err == nil:
		if e, ok := reply.(etf.Tuple); !ok || len(e) != 2 || atom(e[0]) != "ok" {
			return fmt.Errorf("list processes of %s: got %s", link.Name(), printed(reply))
		}
		return nil
	case errors.Is(readErr, ErrCut):
		c.failed(t.cut(link.Name(), t.m.budget().Rows, 0))
		return nil
	case errors.Is(readErr, errSlow):
		return readErr
	case errors.Is(cause, ErrTimeout):
		return t.noAnswer(link)
	case cause != nil && ctx.Err() == context.Canceled && !errors.Is(cause, context.Canceled):
		return cause // of reading the chunks
	}
	return err
}

// chunks reads until ctx ends: the agent answers the call only when every chunk
// is acknowledged. idle runs while it waits for the target, not for the reader, nor
// for the budget of bytes, which is what the next chunk waits for. The error is
// ErrCut where the budget of rows is used up.
func (t *target) chunks(ctx context.Context, link *node.Peer, inbox *node.Mailbox, c *collector, idle *time.Timer, pause time.Duration) error {
	chunks, left := t.rows(link).chunks(), t.m.budget().Rows
	for {
		m, err := inbox.Receive(ctx)
		if err != nil {
			return err
		}
		body, err := m.Body()
		if err != nil {
			return fmt.Errorf("read processes of %s: %w", link.Name(), err)
		}
		chunk, worker, ok, err := chunks.read(body)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		idle.Stop()
		some, whole := within(&left, chunk)
		t.cost.rows(len(some))
		if err := c.add(some); err != nil {
			return err
		}
		if !whole {
			return ErrCut
		}
		if err := t.pace(ctx, link); err != nil {
			return err
		}
		if err := link.Send(worker, etf.Tuple{tableRef, etf.Atom("ack")}); err != nil {
			return err
		}
		idle.Reset(pause)
	}
}
