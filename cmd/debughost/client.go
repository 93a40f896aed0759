package main

import (
	"context"
	"errors"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
)

// answerTime is how long an answer that asks no target may take.
const answerTime = 10 * time.Second

// grace is how much longer the command waits than the member does, so that
// the error which arrives is the member's: it says more.
const grace = 2 * time.Second

// withClient runs do with a connection to the member. Ctrl-C ends it.
func (a *app) withClient(ctx context.Context, do func(context.Context, *control.Client) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	addr, err := a.address()
	if err != nil {
		return err
	}
	dialing, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := control.Dial(dialing, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	err = do(ctx, c)
	if ctx.Err() != nil && isCanceled(err) {
		return &control.Error{Code: control.Canceled, Cause: "interrupted"}
	}
	return err
}

// within bounds ctx by --timeout or, without it, by usual.
func (a *app) within(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if a.timeout > 0 {
		usual = a.timeout
	}
	return context.WithTimeout(ctx, usual+grace)
}

// targetTimeout is --timeout for the member to apply to each target; nil
// leaves it to the member.
func (a *app) targetTimeout() *durationpb.Duration {
	if a.timeout == 0 {
		return nil
	}
	return durationpb.New(a.timeout)
}

func isCanceled(err error) bool {
	var e *control.Error
	return errors.Is(err, context.Canceled) || errors.As(err, &e) && e.Code == control.Canceled
}
