package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/wire"
	"google.golang.org/grpc"
)

// baseChecks are for plugins of every kind.
var baseChecks = []check{
	{name: "base/start", gate: true, run: started(pass),
		about: "The plugin starts, shakes hands on its standard output as the first thing it prints there, and serves."},
	{name: "base/describe", gate: true, run: started(checkDescribe),
		about: "The plugin describes itself: its name is its file's name and begins with its kind, it has a version, and its config schema is a JSON Schema of an object."},
	{name: "base/configure", gate: true, run: withConfig(pass),
		about: "The plugin accepts a good config."},
	{name: "base/configure-once", run: withConfig(checkConfigureOnce),
		about: "After a config was accepted, the next Configure fails: another config is for another process."},
	{name: "base/configure-first", run: started(checkConfigureFirst),
		about: "The methods of the kind fail until Configure has succeeded."},
	{name: "base/unknown-key", run: started(checkUnknownKey),
		about: "A config with an unknown key is refused; the problem's path is the key's. A good config may follow."},
	{name: "base/bad-json", run: started(checkBadJSON),
		about: "A config that is not a JSON object is refused, and the plugin goes on serving."},
	{name: "base/concurrency", run: withConfig(checkConcurrency),
		about: "Fifty callers at once all get answers."},
	{name: "base/flood", run: withConfig(checkFlood),
		about: "After thousands of calls, many of them cancelled, the plugin still answers."},
	{name: "base/message-size", run: checkMessageSize,
		about: "A message above 16 MiB is refused, and the plugin goes on serving."},
	{name: "base/interrupt", run: started(checkInterrupt),
		about: "An interrupt from the terminal does not end the plugin: the host decides."},
	{name: "base/stop", run: withConfig(checkStop),
		about: "The plugin ends within a second of being asked to."},
	{name: "base/host-killed", run: checkHostKilled,
		about: "The plugin ends within three seconds of its host being killed."},
}

// pass is for checks of what comes before them.
func pass(context.Context, *process) error { return nil }

func checkDescribe(ctx context.Context, s *process) error {
	var d sdk.Description
	err := within(ctx, s.plugin.Timeout, "describe", func(ctx context.Context) (err error) {
		d, err = s.Describe(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if file := strings.TrimSuffix(filepath.Base(s.plugin.Path), ".exe"); d.Name != file {
		return fmt.Errorf("the plugin is called %q, its file %q", d.Name, file)
	}
	if s.plugin.Kind != "" && d.Kind != s.plugin.Kind {
		return fmt.Errorf("the plugin is of kind %q, want %q", d.Kind, s.plugin.Kind)
	}
	var schema struct{ Type string }
	if err := json.Unmarshal(d.ConfigSchema, &schema); err != nil || schema.Type != "object" {
		return fmt.Errorf("the config schema is of type %q, want object", schema.Type)
	}
	return nil
}

func checkConfigureOnce(ctx context.Context, s *process) error {
	if err := s.Configure(ctx, []byte(s.plugin.Config)); !errors.Is(err, sdk.ErrConfigured) {
		return fmt.Errorf("configure twice: got %v, want an error of code FAILED_PRECONDITION", err)
	}
	return s.answers(ctx, "the second configure")
}

func checkConfigureFirst(ctx context.Context, s *process) error {
	d, err := s.Describe(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.plugin.Timeout)
	defer cancel()
	switch d.Kind {
	case sdk.KindDiscovery:
		err = s.watch(ctx, func(sdk.Answer) error { return errors.New("it answered") })
	case sdk.KindPlacement:
		_, err = s.Placement().Choose(ctx, sdk.PlacementRequest{})
	case sdk.KindSandbox:
		_, err = s.Sandbox(d).Inspect(ctx, "plugintest")
	}
	if !errors.Is(err, sdk.ErrNotConfigured) {
		return fmt.Errorf("use before configure: got %v, want an error of code FAILED_PRECONDITION", err)
	}
	return nil
}

// unknownKey is no plugin's.
const unknownKey = "plugintest_unknown_key"

func checkUnknownKey(ctx context.Context, s *process) error {
	var config map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.plugin.Config), &config); err != nil {
		return fmt.Errorf("read the suite's own config: %w", err)
	}
	config[unknownKey] = json.RawMessage("1")
	bad, err := json.Marshal(config)
	if err != nil {
		return err
	}
	var problems *sdk.ConfigError
	if err := s.configure(ctx, string(bad)); !errors.As(err, &problems) {
		return fmt.Errorf("configure with an unknown key: got %v, want a list of problems", err)
	}
	named := false
	for _, problem := range problems.Problems {
		named = named || problem.Path == unknownKey
	}
	if !named {
		return fmt.Errorf("no problem has the path %s: %w", unknownKey, problems)
	}
	return s.configure(ctx, s.plugin.Config)
}

func checkBadJSON(ctx context.Context, s *process) error {
	for _, bad := range []string{
		"", "{", "null", "[]", `"x"`, "1e400", "{}{}", "{} trailing", "\xff\xfe", `{"a":}`,
		strings.Repeat("[", 100_000), `{"a":` + strings.Repeat(`{"a":`, 50_000), strings.Repeat(" ", 1<<20),
	} {
		if err := s.configure(ctx, bad); err == nil {
			return fmt.Errorf("configure with %s: it was accepted", shorten(bad))
		}
		if err := s.answers(ctx, "the config "+shorten(bad)); err != nil {
			return err
		}
	}
	return s.configure(ctx, s.plugin.Config)
}

func checkConcurrency(ctx context.Context, s *process) error {
	const callers, calls = 50, 20
	errs := make(chan error, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			errs <- within(ctx, s.plugin.Timeout, "describe, 50 callers at once", func(ctx context.Context) error {
				for range calls {
					if _, err := s.Describe(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return s.explain(err)
		}
	}
	return nil
}

func checkFlood(ctx context.Context, s *process) error {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 250 {
				// Some of these end before they are sent, some on the way, some
				// are answered; none of it may hurt the next.
				call, cancel := context.WithTimeout(ctx, 500*time.Microsecond)
				_, _ = s.Describe(call)
				cancel()
			}
		})
	}
	wg.Wait()
	return s.answers(ctx, "a flood of calls")
}

func checkMessageSize(ctx context.Context, p Plugin) error {
	s, err := start(ctx, p, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		return err
	}
	defer s.stop()
	err = within(ctx, p.Timeout, "configure", func(ctx context.Context) error {
		return s.Configure(ctx, []byte(`{"x":"`+strings.Repeat("x", wire.MaxMessage)+`"}`))
	})
	if !errors.Is(err, sdk.ErrGarbage) {
		return fmt.Errorf("send a message above the limit: got %v, want an error of code RESOURCE_EXHAUSTED", err)
	}
	return s.answers(ctx, "a message above the limit")
}

func checkInterrupt(ctx context.Context, s *process) error {
	if err := s.answers(ctx, "the start"); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return skipped("this system has no interrupts for processes")
	}
	// The signal takes effect at some point; a plugin that it ends does so
	// within these answers.
	for range 20 {
		if err := s.answers(ctx, "an interrupt"); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func checkStop(ctx context.Context, s *process) error {
	return s.endsInTime(ctx)
}

// slowEnd is what a busy machine may need to end a process within a second.
// One on package sdk waits for longer than that when a method does not heed the
// end of its context.
const slowEnd = 1400 * time.Millisecond

// endsInTime asks the process to end.
func (s *process) endsInTime(ctx context.Context) error {
	took, err := s.end(ctx, 5*time.Second)
	if err != nil {
		return err
	}
	if took > slowEnd {
		return s.explain(fmt.Errorf("the plugin took %v to end; does a method ignore its context?", took.Round(time.Millisecond)))
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
