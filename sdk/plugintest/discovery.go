package plugintest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

var discoveryChecks = []check{
	{name: "discovery/first-answer", kind: sdk.KindDiscovery, run: withConfig(checkFirstAnswer),
		about: "The first answer, a list or a failure, comes at once, and every node in it is valid: a full name, a known role, none twice."},
	{name: "discovery/full-lists", kind: sdk.KindDiscovery, run: withConfig(checkFullLists),
		about: "Every answer is the full list: a second watch begins with what the first one knows."},
	{name: "discovery/stream", kind: sdk.KindDiscovery, run: withConfig(checkStream),
		about: "The stream stays open until the host cancels it, and answers come when something changed, not all the time."},
	{name: "discovery/cancel", kind: sdk.KindDiscovery, run: withConfig(checkCancel),
		about: "A watch ends when it is cancelled; a hundred cancelled ones leave nothing behind."},
	{name: "discovery/failure", kind: sdk.KindDiscovery, run: started(checkFailure),
		about: "A lookup that fails is a failure in the stream, never an empty list."},
	{name: "discovery/self", kind: sdk.KindDiscovery, run: withConfig(checkSelf),
		about: "When the host has something else to tell of itself, its next watch begins with what the one before knew, also while that one still ends; and the secrets in it are never printed."},
}

// watch is a watch by the host that the suite stands in for.
func (s *process) watch(ctx context.Context, emit func(sdk.Answer) error) error {
	return s.Discovery().Watch(sdk.WithSelf(ctx, s.self()), emit)
}

func (s *process) self() sdk.Self {
	if s.plugin.Self != nil {
		return *s.plugin.Self
	}
	return sdk.Self{Finds: sdk.RoleTarget}
}

// errEnough ends a watch that has seen what it wanted.
var errEnough = errors.New("enough")

// first watches until the first answer.
func (s *process) first(ctx context.Context) (sdk.Answer, error) {
	return s.firstFor(ctx, s.self())
}

func (s *process) firstFor(ctx context.Context, self sdk.Self) (sdk.Answer, error) {
	var first sdk.Answer
	err := within(ctx, s.plugin.FirstAnswer, "watch", func(ctx context.Context) error {
		err := s.Discovery().Watch(sdk.WithSelf(ctx, self), func(a sdk.Answer) error {
			first = a
			return errEnough
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	if err == nil && errors.Is(first.Err, sdk.ErrGarbage) {
		err = first.Err
	}
	return first, s.explain(err)
}

func checkFirstAnswer(ctx context.Context, s *process) error {
	if _, err := s.first(ctx); err != nil {
		return err
	}
	return s.answers(ctx, "a watch")
}

func checkFullLists(ctx context.Context, s *process) error {
	// Nodes come and go while this runs: the second watch must agree with what
	// the first one says just before or just after.
	var last error
	for range 3 {
		a, err := s.first(ctx)
		if err != nil {
			return err
		}
		b, err := s.first(ctx)
		if err != nil {
			return err
		}
		if a.Err != nil || b.Err != nil {
			return skipped("the lookup fails here")
		}
		if slices.Equal(names(a.Nodes), names(b.Nodes)) {
			return nil
		}
		last = fmt.Errorf("one watch begins with %v, the next with %v", names(a.Nodes), names(b.Nodes))
	}
	return last
}

func names(nodes []sdk.Node) []string {
	set := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		set[n.Name] = true
	}
	return slices.SortedFunc(maps.Keys(set), strings.Compare)
}

func checkStream(ctx context.Context, s *process) error {
	const span, most = time.Second, 50
	// Cancelled rather than given a deadline, which the plugin would hear of,
	// and perhaps act on before it has passed here.
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(span, cancel).Stop()
	n := 0
	err := s.watch(watch, func(a sdk.Answer) error {
		n++
		if errors.Is(a.Err, sdk.ErrGarbage) {
			return a.Err
		}
		if n > most {
			return fmt.Errorf("%d answers within %v", n, span)
		}
		return nil
	})
	if watch.Err() == nil {
		return s.explain(err)
	}
	return ctx.Err()
}

func checkCancel(ctx context.Context, s *process) error {
	for i := range 100 {
		if i%10 == 0 {
			if _, err := s.first(ctx); err != nil {
				return err
			}
			continue
		}
		watch, cancel := context.WithTimeout(ctx, time.Millisecond)
		_ = s.watch(watch, func(sdk.Answer) error { return nil })
		cancel()
	}
	if err := s.answers(ctx, "a hundred cancelled watches"); err != nil {
		return err
	}
	return s.endsInTime(ctx)
}

func checkFailure(ctx context.Context, s *process) error {
	if s.plugin.FailConfig == "" {
		return skipped("no config is given under which lookups fail (FailConfig)")
	}
	if err := s.configure(ctx, s.plugin.FailConfig); err != nil {
		return err
	}
	watch, cancel := context.WithTimeout(ctx, s.plugin.FirstAnswer)
	defer cancel()
	err := s.watch(watch, func(a sdk.Answer) error {
		switch {
		case errors.Is(a.Err, sdk.ErrGarbage):
			return a.Err
		case a.Err != nil:
			return errEnough
		case len(a.Nodes) == 0:
			return errors.New("the lookup failed, and the answer is an empty list")
		}
		return errors.New("the lookup should have failed, and the answer is a list; is FailConfig right?")
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if watch.Err() != nil {
		return fmt.Errorf("no answer within %v", s.plugin.FirstAnswer)
	}
	return s.explain(err)
}

// checkSelf changes what the host tells of itself again and again, as it does
// when the cluster's keys are changed.
func checkSelf(ctx context.Context, s *process) error {
	known, err := s.first(ctx)
	if err != nil {
		return err
	}
	var secrets []string
	for i := range 10 {
		self := s.self()
		secret := fmt.Sprintf("plugintest-secret-%d-of-the-host", i)
		secrets = append(secrets, secret)
		self.Incarnation += uint64(i)
		self.Secrets = append([]sdk.Secret{sdk.NewSecret([]byte(secret))}, self.Secrets...)
		a, err := s.firstFor(ctx, self)
		if err != nil {
			return fmt.Errorf("watch with another self: %w", err)
		}
		if known.Err == nil && a.Err == nil && !slices.Equal(names(known.Nodes), names(a.Nodes)) {
			return fmt.Errorf("the first watch begins with %v, the one with another self with %v", names(known.Nodes), names(a.Nodes))
		}
	}
	if err := s.answers(ctx, "watches with ever new selves"); err != nil {
		return err
	}
	if err := s.endsInTime(ctx); err != nil {
		return err
	}
	out := s.stderr.all()
	for _, secret := range secrets {
		for _, shown := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret))} {
			if strings.Contains(out, shown) {
				return errors.New("the plugin prints a secret that it was told")
			}
		}
	}
	return nil
}
