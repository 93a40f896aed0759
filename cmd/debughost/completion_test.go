package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/control"
)

// completions is what the shell gets for the last of args.
func completions(m *member, args ...string) []string {
	r := command(append([]string{"__complete", "--addr", m.addr}, args...)...)
	var out []string
	for line := range strings.Lines(r.out) {
		if word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); word != "" && word[0] != ':' {
			out = append(out, word)
		}
	}
	return out
}

func TestCompletion(t *testing.T) {
	defer func(was time.Duration) { completionTime = was }(completionTime)
	completionTime = time.Minute
	m := shop(t)
	for _, c := range []struct {
		args string
		want string
	}{
		{"ps ", "cart@db2 mail@db2 shop@db1"},
		{"ps s", "shop@db1"},
		{"ps shop@db1 ", "cart@db2 mail@db2"},
		{"inspect sh", "shop@db1"},
		{"inspect shop@db1 ", "Elixir.Shop.Orders code_server <0.9.0>"},
		{"inspect shop@db1 Shop", "Shop.Orders"},
		{"inspect shop@db1 <0.", "<0.123.0> <0.50.0> <0.9.0>"},
		{"kill shop@db1 0.5", "0.50.0"},
		{"kill shop@db1 x y", ""},
		{"ps --sort ", "memory reductions message_queue_len"},
		{"ps -o ", "table json csv"},
		{"inspect --syntax ", "auto erlang elixir"},
		{"events --type ", strings.Join(control.EventTypes(), " ")},
		{"run --log-format ", "text json"},
		{"sta", "state status"},
	} {
		assert.Equal(t, c.want, strings.Join(completions(m, strings.Split(c.args, " ")...), " "), c.args)
	}
}

// Without a running debughost the shell gets nothing, and no error text.
func TestCompletionAlone(t *testing.T) {
	r := command("__complete", "--addr", filepath.Join(t.TempDir(), "none"), "ps", "")
	assert.Equal(t, exitDone, r.code)
	assert.Equal(t, ":4\n", r.out)
	assert.Empty(t, completions(&member{addr: "tcp://x"}, "inspect", "a", ""))
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := command("completion", shell)
		assert.Equal(t, exitDone, r.code)
		assert.Contains(t, r.out, "debughost", shell)
	}
	assert.Contains(t, command("completion").out, "bash")
}
