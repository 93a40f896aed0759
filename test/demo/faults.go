package main

import (
	"context"
	"fmt"
	"strings"
)

// showable are the messages in the leaking mailbox before it is shown.
const showable = 500

// fault is something that is wrong with the shop.
type fault struct {
	name     string // in -fault, and to the shop in DEMO_FAULT
	page     string // what is written about it
	kind     string // of the finding that `debughost diagnose` has of it; empty: not waited for
	question string
	first    []string // the command that answers it
	next     []string // commands to try; HOST is this machine
}

// faults, of which the first is the usual one.
var faults = []fault{
	{
		name: "mailbox", page: "docs/questions/mailbox.md",
		question: "Some mailbox leaks. Whose?",
		first:    []string{"ps", "--sort", "message_queue_len", "--limit", "5"},
		next: []string{
			"ps --sort message_queue_len --window 1s   # how fast does it grow?",
			"inspect shop@HOST Shop.Mailer --messages 3   # what does it wait for?",
			"kill shop@HOST Shop.Mailer   # its supervisor starts it anew; for how long does that help?",
		},
	},
	{
		name: "leak", page: "docs/questions/memory.md", kind: "binary_leak",
		question: "Memory leaks. Who holds it?",
		first:    []string{"diagnose"},
		next: []string{
			"diagnose --gc   # is it garbage?",
			"inspect shop@HOST Shop.Labels   # which binaries?",
			"state shop@HOST Shop.Labels   # what refers to them?",
		},
	},
	{
		name: "loop", page: "docs/questions/restarts.md", kind: "restart_loop",
		question: "Something restarts, again and again. What?",
		first:    []string{"diagnose"},
		next: []string{
			"tree shop@HOST shop   # whose child?",
			"logs -f --level error   # what does it end of?",
			"apps --env shop@HOST shop   # where is that from?",
		},
	},
	{
		name: "slow", page: "docs/questions/slow.md", kind: "long_schedule",
		question: "The node is slow. Who holds its schedulers?",
		first:    []string{"diagnose", "--monitor", "5s"},
		next: []string{
			"system shop@HOST   # how busy are they?",
			"ps shop@HOST --sort reductions --window 1s   # who works?",
			"ets shop@HOST --limit 3   # what on?",
		},
	},
}

func faultNames() string {
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

func chosen(name string) (fault, error) {
	for _, f := range faults {
		if f.name == name {
			return f, nil
		}
	}
	return fault{}, fmt.Errorf("there is no fault %q: it is one of %s", name, faultNames())
}

// shows says whether the fault can be seen yet, or why not.
func (f fault) shows(ctx context.Context, c cli) error {
	if f.kind == "" {
		return c.backlog(ctx, showable)
	}
	args := []string{"diagnose"}
	if f.kind == "long_schedule" {
		args = append(args, "--monitor", "1s")
	}
	return c.found(ctx, f.kind, args...)
}
