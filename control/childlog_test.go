package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

// prints is a log with these lines that goes on until its context ends.
func prints(lines ...string) func(context.Context, sdk.LogOptions, func(sdk.LogLine) error) error {
	return func(ctx context.Context, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
		if o.Tail > 0 {
			lines = lines[max(0, len(lines)-o.Tail):]
		}
		for i, line := range lines {
			if err := emit(sdk.LogLine{Time: startOfTests.Add(time.Duration(i) * time.Second), Stream: "stdout", Line: []byte(line)}); err != nil {
				return err
			}
		}
		if o.Follow {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}

// childLines reads n lines, or to the end.
func childLines(t *testing.T, s controlpb.Children_ReadChildLogClient, n int) (lines []string) {
	t.Helper()
	for n < 0 || len(lines) < n {
		res, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return lines
		}
		require.NoError(t, err)
		for _, l := range res.GetLines() {
			lines = append(lines, l.GetMember()+" "+l.GetStream()+" "+string(l.GetLine()))
		}
	}
	return lines
}

func TestChildLog(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.children.put(aChild("web", "b", supervisor.Running))
	var many []string
	for i := range 3 * childChunk {
		many = append(many, fmt.Sprint("line ", i))
	}
	c.children.logs["b"] = prints(many...)
	client := c.members["a"].dial(t)
	read := func(req *controlpb.ReadChildLogRequest) []string {
		t.Helper()
		s, err := client.Children.ReadChildLog(testContext(t), req)
		require.NoError(t, err)
		return childLines(t, s, -1)
	}
	got := read(&controlpb.ReadChildLogRequest{Id: "web"})
	require.Len(t, got, len(many))
	assert.Equal(t, "b stdout line 0", got[0])
	assert.Equal(t, "b stdout line 1499", got[1499])
	assert.Equal(t, []string{"b stdout line 1498", "b stdout line 1499"}, read(&controlpb.ReadChildLogRequest{Id: "web", Tail: 2}))

	for id, code := range map[string]Code{"gone": UnknownChild, "a b": BadRequest} {
		s, err := client.Children.ReadChildLog(testContext(t), &controlpb.ReadChildLogRequest{Id: id})
		require.NoError(t, err)
		_, err = s.Recv()
		requireCode(t, err, code)
	}
	c.children.put(aChild("web", "", supervisor.Pending))
	s, err := client.Children.ReadChildLog(testContext(t), &controlpb.ReadChildLogRequest{Id: "web"})
	require.NoError(t, err)
	_, err = s.Recv()
	assert.Contains(t, requireCode(t, err, Conflict).Cause, "no member runs it")
	c.children.put(aChild("web", "b", supervisor.Running))
	c.kill("b")
	s, err = client.Children.ReadChildLog(testContext(t), &controlpb.ReadChildLogRequest{Id: "web"})
	require.NoError(t, err)
	_, err = s.Recv()
	assert.Contains(t, requireCode(t, err, Unreachable).Cause, "member b could not be reached")
}

// A log that is followed goes on where the child goes on: on another member after a
// move, and after its member is lost.
func TestChildLogFollows(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.children.put(aChild("web", "b", supervisor.Running))
	c.children.logs["b"], c.children.logs["c"] = prints("one", "two"), prints("three")
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	s, err := c.members["a"].dial(t).Children.ReadChildLog(ctx, &controlpb.ReadChildLogRequest{Id: "web", Tail: 1, Follow: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"b stdout two"}, childLines(t, s, 1))
	c.children.put(aChild("web", "c", supervisor.Running))
	assert.Equal(t, []string{"c member c", "c stdout three"}, childLines(t, s, 2))

	c.kill("c")
	c.children.put(aChild("web", "", supervisor.Pending))
	c.children.change(func() { c.children.logs["a"] = prints("four") })
	c.children.put(aChild("web", "a", supervisor.Running))
	assert.Equal(t, []string{"a member a", "a stdout four"}, childLines(t, s, 2))

	c.children.change(func() { delete(c.children.children, "web") })
	_, err = s.Recv()
	assert.ErrorIs(t, err, io.EOF, "it was removed")
}

// A plugin that ends and comes back costs a pause, and no line is told twice.
func TestChildLogIsReadAgain(t *testing.T) {
	c := newTestCluster(t, "a")
	c.children.put(aChild("web", "a", supervisor.Running))
	times := 0
	c.children.logs["a"] = func(ctx context.Context, o sdk.LogOptions, emit func(sdk.LogLine) error) error {
		times++
		lines := []string{"one", "two", "three"}[:times]
		_ = prints(lines...)(ctx, sdk.LogOptions{}, emit)
		if times < 3 {
			return fmt.Errorf("read: %w", sdk.ErrNotFound)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	s, err := c.members["a"].dial(t).Children.ReadChildLog(ctx, &controlpb.ReadChildLogRequest{Id: "web", Follow: true})
	require.NoError(t, err)
	assert.Equal(t, "a stdout one, a stdout two, a stdout three", strings.Join(childLines(t, s, 3), ", "))
}

// A child that is started again on another member has no log there for a while.
func TestChildLogIsNotThereYet(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	c.children.put(aChild("web", "b", supervisor.Backoff))
	c.children.logs["b"] = func(context.Context, sdk.LogOptions, func(sdk.LogLine) error) error {
		return fmt.Errorf("read log: %w", supervisor.ErrNoRun)
	}
	client := c.members["a"].dial(t)
	s, err := client.Children.ReadChildLog(testContext(t), &controlpb.ReadChildLogRequest{Id: "web"})
	require.NoError(t, err)
	_, err = s.Recv()
	assert.Equal(t, "read the log of child web: there is none on b: the child does not run there", requireCode(t, err, NoLog).Cause)

	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	s, err = client.Children.ReadChildLog(ctx, &controlpb.ReadChildLogRequest{Id: "web", Follow: true})
	require.NoError(t, err)
	passed := func() uint64 { return c.members["a"].server.forward.passed.Load() }
	before := passed()
	require.Eventually(t, func() bool { return passed() > before }, 30*time.Second, time.Millisecond)
	c.children.change(func() { c.children.logs["b"] = prints("one") })
	assert.Equal(t, []string{"b stdout one"}, childLines(t, s, 1))
}

// An error that is no member's ends the log.
func TestChildLogFails(t *testing.T) {
	c := newTestCluster(t, "a")
	c.children.put(aChild("web", "a", supervisor.Running))
	c.children.logs["a"] = func(context.Context, sdk.LogOptions, func(sdk.LogLine) error) error {
		return errors.New("the disk is gone")
	}
	s, err := c.members["a"].dial(t).Children.ReadChildLog(testContext(t), &controlpb.ReadChildLogRequest{Id: "web", Follow: true})
	require.NoError(t, err)
	_, err = s.Recv()
	assert.Equal(t, "read the log of child web: the disk is gone", requireCode(t, err, Failed).Cause)
}
