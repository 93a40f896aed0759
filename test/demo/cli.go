package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// cli calls the debughost under show, as a user does.
type cli struct {
	binary string
	env    []string
}

// show prints a command and its output.
func (c cli) show(ctx context.Context, args ...string) error {
	fmt.Printf("\n$ %s %s\n", c.binary, strings.Join(args, " "))
	cmd := c.command(ctx, args)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", c.binary, args[0], err)
	}
	return nil
}

// get decodes a command's JSON.
func (c cli) get(ctx context.Context, into any, args ...string) error {
	out, err := c.command(ctx, append(args, "-o", "json")).Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok && len(exit.Stderr) > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return fmt.Errorf("%s %s: %w", c.binary, args[0], err)
	}
	return json.Unmarshal(out, into)
}

func (c cli) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = c.env
	return cmd
}

// attached says whether debughost is attached to all of nodes, or why not.
func (c cli) attached(ctx context.Context, nodes ...string) error {
	var answer struct {
		Targets []struct{ Node, State, Reason string }
	}
	if err := c.get(ctx, &answer, "targets"); err != nil {
		return err
	}
	state := map[string]string{}
	for _, t := range answer.Targets {
		state[t.Node] = strings.TrimSpace(t.State + " " + t.Reason)
	}
	for _, node := range nodes {
		if state[node] != "attached" {
			return fmt.Errorf("%s is not attached: %s", node, state[node])
		}
	}
	return nil
}

// backlog says whether some process has at least n messages waiting.
func (c cli) backlog(ctx context.Context, n uint64) error {
	var answer struct {
		Processes []struct {
			MessageQueueLen uint64 `json:"message_queue_len"`
		}
	}
	if err := c.get(ctx, &answer, "ps", "--sort", "message_queue_len", "--limit", "1"); err != nil {
		return err
	}
	if len(answer.Processes) == 0 || answer.Processes[0].MessageQueueLen < n {
		return fmt.Errorf("no mailbox has %d messages: %v", n, answer.Processes)
	}
	return nil
}

// eventually calls check until it has no error. It gives up, with check's last
// error, when alive has one or limit is over.
func eventually(ctx context.Context, limit time.Duration, alive, check func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	over := time.After(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if dead := alive(); dead != nil {
			return dead
		}
		select {
		case <-tick.C:
		case <-over:
			return fmt.Errorf("after %v: %w", limit, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// found says whether a diagnosis has a finding of the kind.
func (c cli) found(ctx context.Context, kind string, diagnose ...string) error {
	var answer struct {
		Findings []struct{ Kind string }
	}
	if err := c.get(ctx, &answer, diagnose...); err != nil {
		return err
	}
	for _, f := range answer.Findings {
		if f.Kind == kind {
			return nil
		}
	}
	return fmt.Errorf("nothing of kind %s is found: %v", kind, answer.Findings)
}
