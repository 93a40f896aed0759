package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

type described struct{ info Info }

func (d described) Describe() Info { return d.info }

type watcher struct{ described }

func (watcher) Watch(context.Context, func(Answer) error) error { return nil }

type both struct{ watcher }

func (both) Choose(context.Context, PlacementRequest) (Decision, error) { return Decision{}, nil }

func TestRegisterChecksTheStrategy(t *testing.T) {
	for want, s := range map[string]Strategy{
		"implements 0 of Discovery":    described{Info{Name: "discovery-x"}},
		"implements 2 of Discovery":    both{watcher{described{Info{Name: "discovery-x"}}}},
		"want a pointer to a struct":   watcher{described{Info{Name: "discovery-x", Config: 1}}},
		`name "x" is not`:              watcher{described{Info{Name: "x"}}},
		`begin with its kind`:          watcher{described{Info{Name: "placement-x"}}},
		`name "discovery" is not`:      watcher{described{Info{Name: "discovery"}}},
		`name "discovery-X" is not`:    watcher{described{Info{Name: "discovery-X"}}},
		`"discoveryx-y" does not begi`: watcher{described{Info{Name: "discoveryx-y"}}},
	} {
		_, err := Register(grpc.NewServer(), s)
		require.ErrorContains(t, err, want)
	}
}

func TestDescriptionDefaults(t *testing.T) {
	d, err := Register(grpc.NewServer(), watcher{described{Info{Name: "discovery-x", Schema: []byte(`{"type":"object"}`)}}})
	require.NoError(t, err)
	require.NotEmpty(t, d.Version)
	require.JSONEq(t, `{"type":"object"}`, string(d.ConfigSchema))
	require.False(t, d.Has(CapabilitySnapshot))
	d.Capabilities = []string{"a", CapabilitySnapshot}
	require.True(t, d.Has(CapabilitySnapshot))
}

func TestErrors(t *testing.T) {
	require.NoError(t, WithHint(nil, "x"))
	require.Equal(t, io.EOF, WithHint(io.EOF, ""))
	err := fmt.Errorf("read: %w", WithHint(io.EOF, "is the disk in?"))
	require.EqualError(t, err, "read: EOF")
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "is the disk in?", Hint(err))
	require.Empty(t, Hint(io.EOF))
	require.EqualError(t, &CallError{Method: "A.B", Cause: ErrPanic}, "call A.B: plugin panicked")
	require.EqualError(t, &CallError{Method: "A.B", Cause: ErrNotFound, Message: "use x: not found"}, "call A.B: use x: not found")
	require.EqualError(t, &CallError{Method: "A.B", Cause: ErrGarbage, Message: "odd"}, "call A.B: plugin broke the contract: odd")
	require.Equal(t, "x", Hint(&CallError{Advice: "x"}))
}

func TestCleanBoundsWords(t *testing.T) {
	require.Equal(t, "a\ufffdb", clean("a\xffb"))
	require.Less(t, len(clean(strings.Repeat("x", 1<<20))), 9<<10)
}

func TestPollTellsChangesOnly(t *testing.T) {
	a, b := Node{Name: "a@h", Metadata: map[string]string{"k": "v"}}, Node{Name: "b@h"}
	moved := a
	moved.Addr = "h:1"
	refused := errors.New("refused")
	rounds := []Answer{
		{Nodes: []Node{a, b}},
		{Nodes: []Node{b, a}}, // the order does not count
		{Err: refused},
		{Err: errors.New("refused")},
		{Err: WithHint(refused, "hint")},
		{Nodes: []Node{a, b}, Err: refused},
		{Nodes: []Node{moved, b}},
		{},
		{},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []Answer
	err := Poll(ctx, time.Millisecond, time.Second, func(a Answer) error { got = append(got, a); return nil }, func(ctx context.Context) ([]Node, error) {
		_, limited := ctx.Deadline()
		require.True(t, limited)
		if len(rounds) == 0 {
			cancel()
			return nil, ctx.Err()
		}
		r := rounds[0]
		rounds = rounds[1:]
		return r.Nodes, r.Err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, got, 6)
	require.Equal(t, "hint", Hint(got[2].Err))
	require.Equal(t, "h:1", got[4].Nodes[0].Addr)
	require.Equal(t, Answer{}, got[5])
}

func TestPollTellsAnEmptyListAtFirst(t *testing.T) {
	stop := errors.New("stop")
	err := Poll(t.Context(), time.Hour, 0, func(a Answer) error { require.Equal(t, Answer{}, a); return stop }, func(context.Context) ([]Node, error) { return nil, nil })
	require.ErrorIs(t, err, stop)
}

func TestPollEndsWhileItWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Poll(ctx, time.Hour, 0, func(Answer) error { cancel(); return nil }, func(context.Context) ([]Node, error) { return nil, nil })
	require.ErrorIs(t, err, context.Canceled)
}
