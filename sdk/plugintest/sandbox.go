package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/sdk"
)

var sandboxChecks = []check{
	{name: "sandbox/unknown", kind: sdk.KindSandbox, run: withConfig(checkUnknownSandbox),
		about: "Methods on a sandbox that is not known fail with NOT_FOUND; Destroy succeeds."},
	{name: "sandbox/lifecycle", kind: sdk.KindSandbox, run: boxed(checkLifecycle),
		about: "A sandbox runs after Create, whose id is then taken; Stop ends it, Wait tells how, and Destroy leaves nothing known of it."},
	{name: "sandbox/logs", kind: sdk.KindSandbox, run: boxed(checkLogs),
		about: "What a sandbox prints can be read line by line."},
	{name: "sandbox/wait", kind: sdk.KindSandbox, run: boxed(checkWait),
		about: "Wait ends when it is cancelled and leaves the sandbox alone."},
	{name: "sandbox/recover", kind: sdk.KindSandbox, run: boxed(checkRecover),
		about: "A sandbox outlives its plugin's process, and the next process takes it over by its handle."},
	{name: "sandbox/takeover", kind: sdk.KindSandbox, run: abandoned(checkTakeover),
		about: "A sandbox also outlives the host for as long as its spec allows, and the next host's plugin takes it over."},
	{name: "sandbox/orphan", kind: sdk.KindSandbox, run: abandoned(checkOrphan),
		about: "When nobody has taken a sandbox over in that time, its process ends and nothing of it is left."},
	{name: "sandbox/killed", kind: sdk.KindSandbox, run: boxed(checkKilled),
		about: "When the sandbox's process is killed, Wait returns and says by which signal."},
	{name: "sandbox/limits", kind: sdk.KindSandbox, run: withConfig(checkLimits),
		about: "A sandbox that goes over a limit is ended, its exit says why, and its status by what each limit is held."},
	{name: "sandbox/create-fails", kind: sdk.KindSandbox, run: withConfig(checkCreateFails),
		about: "Of a sandbox that cannot be created nothing is left, and its id is free."},
	{name: "sandbox/clean", kind: sdk.KindSandbox, run: boxed(checkClean),
		about: "Destroy leaves no process and, in the plugin's state directory, no file."},
	{name: "sandbox/snapshot", kind: sdk.KindSandbox, run: boxed(checkSnapshot),
		about: "With the capability snapshot: a sandbox is restored from its snapshot under another id, and without it both are refused."},
	{name: "sandbox/reload", kind: sdk.KindSandbox, run: boxed(checkReload),
		about: "With the capability reload: a sandbox takes what its spec says while it runs, if that has a bundle, one that is not known is NOT_FOUND, and without it both are refused."},
	{name: "sandbox/operate", kind: sdk.KindSandbox, run: boxed(checkOperate),
		about: "An operation that the strategy does not have is UNIMPLEMENTED, with the capability operate and without, and does the sandbox no harm."},
}

var lastID atomic.Uint64

func newID() string {
	return "plugintest-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(lastID.Add(1), 10)
}

// box is one sandbox under test.
type box struct {
	*process
	sdk.Sandbox
	id     string
	handle sdk.SandboxHandle
}

// boxed is a check on a sandbox that was created for it. What it leaves behind
// is removed.
func boxed(check func(context.Context, *box) error) func(context.Context, Plugin) error {
	return func(ctx context.Context, p Plugin) error {
		if p.Spec == nil {
			return skipped("no sandbox to run is given (Spec)")
		}
		b := &box{id: newID()}
		if err := b.attach(ctx, p); err != nil {
			return err
		}
		defer func() {
			_ = b.destroy(context.WithoutCancel(ctx))
			b.stop()
		}()
		err := within(ctx, p.Timeout, "create sandbox", func(ctx context.Context) (err error) {
			b.handle, err = b.Create(ctx, b.spec(b.id))
			return err
		})
		if err != nil {
			return b.explain(err)
		}
		return check(ctx, b)
	}
}

// attach starts a process of the plugin for the sandbox.
func (b *box) attach(ctx context.Context, p Plugin) error {
	s, err := start(ctx, p)
	if err != nil {
		return err
	}
	b.process = s
	d, err := s.Describe(ctx)
	if err == nil {
		err = s.configure(ctx, p.Config)
	}
	if err != nil {
		s.stop()
		return err
	}
	b.Sandbox = s.Sandbox(d)
	return nil
}

func (b *box) spec(id string) sdk.SandboxSpec {
	spec := *b.plugin.Spec
	spec.ID = id
	return spec
}

func (b *box) destroy(ctx context.Context) error {
	return within(ctx, b.plugin.Timeout, "destroy sandbox", func(ctx context.Context) error { return b.Destroy(ctx, b.id) })
}

// is checks the state of a sandbox.
func (b *box) is(ctx context.Context, id string, want sdk.SandboxState) error {
	var st sdk.SandboxStatus
	err := within(ctx, b.plugin.Timeout, "inspect sandbox", func(ctx context.Context) (err error) {
		st, err = b.Inspect(ctx, id)
		return err
	})
	if err == nil && st.State != want {
		err = fmt.Errorf("the sandbox is %s, want %s", st.State, want)
	}
	return err
}

func notFound(what string, err error) error {
	if !errors.Is(err, sdk.ErrNotFound) {
		return fmt.Errorf("%s: got %v, want an error of code NOT_FOUND", what, err)
	}
	return nil
}

func checkUnknownSandbox(ctx context.Context, s *process) error {
	ctx, cancel := context.WithTimeout(ctx, s.plugin.Timeout)
	defer cancel()
	b, id := s.Sandbox(sdk.Description{}), newID()
	_, inspect := b.Inspect(ctx, id)
	_, wait := b.Wait(ctx, id)
	return errors.Join(
		notFound("inspect", inspect),
		notFound("wait", wait),
		notFound("stop", b.Stop(ctx, id, time.Second)),
		notFound("recover", b.Recover(ctx, sdk.SandboxHandle{ID: id, State: []byte("{}")})),
		notFound("logs", b.Logs(ctx, id, sdk.LogOptions{}, func(sdk.LogLine) error { return nil })),
		b.Destroy(ctx, id),
	)
}

func checkLifecycle(ctx context.Context, b *box) error {
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return err
	}
	if _, err := b.Create(ctx, b.spec(b.id)); !errors.Is(err, sdk.ErrExists) {
		return fmt.Errorf("create with an id in use: got %v, want an error of code ALREADY_EXISTS", err)
	}
	for _, what := range []string{"stop sandbox", "stop a stopped sandbox"} {
		if err := within(ctx, b.plugin.Timeout, what, func(ctx context.Context) error { return b.Stop(ctx, b.id, b.plugin.Timeout/2) }); err != nil {
			return err
		}
	}
	err := within(ctx, b.plugin.Timeout, "wait for the stopped sandbox", func(ctx context.Context) error {
		_, err := b.Wait(ctx, b.id)
		return err
	})
	if err != nil {
		return err
	}
	if err := b.is(ctx, b.id, sdk.SandboxExited); err != nil {
		return err
	}
	for range 2 {
		if err := b.destroy(ctx); err != nil {
			return err
		}
	}
	_, err = b.Inspect(ctx, b.id)
	return notFound("inspect a destroyed sandbox", err)
}

func checkLogs(ctx context.Context, b *box) error {
	return within(ctx, b.plugin.Timeout, "follow the log", func(ctx context.Context) error {
		err := b.Logs(ctx, b.id, sdk.LogOptions{Follow: true}, func(l sdk.LogLine) error {
			if bytes.ContainsAny(l.Line, "\r\n") || l.Stream != "stdout" && l.Stream != "stderr" {
				return fmt.Errorf("line %q of stream %q: want one line without its end, of stdout or stderr", l.Line, l.Stream)
			}
			return errEnough
		})
		if errors.Is(err, errEnough) {
			return b.checkTail(ctx)
		}
		if err == nil {
			err = errors.New("the log ended without a line")
		}
		return err
	})
}

// checkTail asks for the last line, which there is by now.
func (b *box) checkTail(ctx context.Context) error {
	lines := 0
	err := b.Logs(ctx, b.id, sdk.LogOptions{Tail: 1}, func(sdk.LogLine) error { lines++; return nil })
	if err == nil && lines != 1 {
		err = fmt.Errorf("asked for the last line the log has %d", lines)
	}
	return err
}

func checkWait(ctx context.Context, b *box) error {
	wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if exit, err := b.Wait(wait, b.id); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait for a running sandbox: got %+v and %v, want it to wait", exit, err)
	}
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return err
	}
	if err := b.destroy(ctx); err != nil {
		return err
	}
	return b.endsInTime(ctx)
}

func checkRecover(ctx context.Context, b *box) error {
	b.kill()
	if err := b.attach(ctx, b.plugin); err != nil {
		return err
	}
	err := within(ctx, b.plugin.Timeout, "recover sandbox", func(ctx context.Context) error { return b.Recover(ctx, b.handle) })
	if err != nil {
		return err
	}
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return err
	}
	if err := b.destroy(ctx); err != nil {
		return err
	}
	return notFound("recover a destroyed sandbox", b.Recover(ctx, b.handle))
}

func checkSnapshot(ctx context.Context, b *box) error {
	s, ok := b.Sandbox.(sdk.Snapshotter)
	if !ok {
		// Ask all the same, as a host would that does not look.
		s = b.process.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilitySnapshot}}).(sdk.Snapshotter)
		if err := s.Snapshot(ctx, b.id, &bytes.Buffer{}); !errors.Is(err, sdk.ErrUnsupported) {
			return fmt.Errorf("snapshot without the capability: got %v, want an error of code UNIMPLEMENTED", err)
		}
		return nil
	}
	var state bytes.Buffer
	err := within(ctx, b.plugin.Timeout, "snapshot sandbox", func(ctx context.Context) error { return s.Snapshot(ctx, b.id, &state) })
	if err != nil {
		return err
	}
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return fmt.Errorf("after its snapshot: %w", err)
	}
	copied := newID()
	defer func() { _ = b.Destroy(context.WithoutCancel(ctx), copied) }()
	err = within(ctx, b.plugin.Timeout, "restore sandbox", func(ctx context.Context) error {
		_, err := s.Restore(ctx, b.spec(copied), &state)
		return err
	})
	if err != nil {
		return err
	}
	return b.is(ctx, copied, sdk.SandboxRunning)
}

func checkReload(ctx context.Context, b *box) error {
	s, ok := b.Sandbox.(sdk.Reloader)
	if !ok {
		s = b.process.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilityReload}}).(sdk.Reloader)
		if _, err := s.Reload(ctx, b.spec(b.id)); !errors.Is(err, sdk.ErrUnsupported) {
			return fmt.Errorf("reload without the capability: got %v, want an error of code UNIMPLEMENTED", err)
		}
		return nil
	}
	err := within(ctx, b.plugin.Timeout, "reload a sandbox that is not known", func(ctx context.Context) error {
		_, err := s.Reload(ctx, b.spec(newID()))
		return notFound("reload", err)
	})
	if err == nil && b.plugin.Spec.Bundle != "" {
		err = within(ctx, b.plugin.Timeout, "reload sandbox", func(ctx context.Context) error {
			_, err := s.Reload(ctx, b.spec(b.id))
			return err
		})
	}
	if err != nil {
		return err
	}
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return fmt.Errorf("after its reload: %w", err)
	}
	return nil
}

func checkOperate(ctx context.Context, b *box) error {
	s, ok := b.Sandbox.(sdk.Operator)
	if !ok {
		s = b.process.Sandbox(sdk.Description{Capabilities: []string{sdk.CapabilityOperate}}).(sdk.Operator)
	}
	err := within(ctx, b.plugin.Timeout, "operate sandbox", func(ctx context.Context) error {
		if _, err := s.Operate(ctx, b.id, "plugintest-no-such-operation", []byte("{}")); !errors.Is(err, sdk.ErrUnsupported) {
			return fmt.Errorf("an operation that there is not: got %v, want an error of code UNIMPLEMENTED", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.is(ctx, b.id, sdk.SandboxRunning); err != nil {
		return fmt.Errorf("after an operation that there is not: %w", err)
	}
	return nil
}
