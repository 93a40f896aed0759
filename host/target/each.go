package target

import (
	"context"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/node"
)

// Ask says which targets a question goes to, and how long each may take.
type Ask struct {
	Nodes   []string      // full names, or the part before @ where it is unambiguous; empty means every target
	Timeout time.Duration // for each target; 0 means Config.CallTimeout
}

// Answers takes what targets answer and why others do not, or not all of it: an
// answer that the budget of rows cut is followed by an ErrCut. Its methods are called
// by one goroutine at a time.
type Answers[T any] struct {
	Answer func(node string, answer T)
	Failed func(NodeError)
}

// each puts one question to several targets at once, each with a deadline of its
// own: a target that fails costs its own answer. extra is time that the question
// takes beside the target's answer, such as a window.
func each[T any](ctx context.Context, m *Manager, a Ask, extra time.Duration, out Answers[T], ask func(context.Context, *target, *node.Peer) (T, error)) {
	chosen, failed := m.choose(a.Nodes)
	for _, f := range failed {
		out.Failed(f)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, t := range chosen {
		wg.Go(func() {
			var answer T
			link, err := t.usable()
			if err == nil {
				ctx, cancel := m.deadline(ctx, a.Timeout, extra)
				defer cancel()
				answer, err = ask(ctx, t, link)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Failed(NodeError{Node: t.display(), Err: err})
				return
			}
			out.Answer(link.Name(), answer)
			t.settle(link.Name(), answer, out.Failed)
		})
	}
	wg.Wait()
}
