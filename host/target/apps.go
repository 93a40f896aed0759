package target

import (
	"context"
	_ "embed" // companions' sources and compiled modules
	"fmt"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/env.erl
var envSource []byte

//go:embed agent/env.beam
var envBeam []byte

var envModule = newCompanion("env", envSource, envBeam)

const (
	// maxEnv bounds the entries of one application's environment in an answer.
	maxEnv = 500
	// MaxApps bounds the applications of one target in an answer.
	MaxApps = 10_000
)

// AppsQuery asks for applications.
type AppsQuery struct{ Ask }

// App is an application of OTP that is loaded.
type App struct {
	Name        string
	Version     string
	Description string
	State       string // running, starting, loading, loaded
	StartType   string // permanent, transient, temporary; empty where it is not started
	Processes   uint64 // that have its master as group leader
	Memory      uint64 // theirs, bytes
}

// Apps tells the loaded applications of targets, by name. Without the helper
// module their processes are not counted.
func (m *Manager) Apps(ctx context.Context, q AppsQuery, out Answers[[]App]) {
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) ([]App, error) {
		if err := t.walks.enter(ctx); err != nil {
			return nil, t.noRoom(ctx, link)
		}
		defer t.walks.leave()
		reply, err := t.companionCall(ctx, link, treeModule, "apps", etf.Int(m.budget().Share))
		if err == errNoAgent {
			return t.plainApps(ctx, link)
		}
		if err != nil {
			return nil, err
		}
		return parseApps(link, reply)
	})
}

// parseApps reads {ok, [{App, Vsn, Description, State, StartType, Processes, Memory}]}.
func parseApps(link *node.Peer, reply etf.Term) ([]App, error) {
	bad := fmt.Errorf("list applications of %s: got %s", link.Name(), printed(reply))
	answer, ok := reply.(etf.Tuple)
	if !ok || len(answer) != 2 {
		return nil, bad
	}
	rows, ok := etf.Elements(answer[1])
	if !ok || len(rows) > MaxApps {
		return nil, bad
	}
	out := make([]App, 0, len(rows))
	for _, row := range rows {
		r, ok := row.(etf.Tuple)
		if !ok || len(r) != 7 {
			return nil, bad
		}
		out = append(out, App{
			Name: atom(r[0]), Version: text(r[1]), Description: text(r[2]), State: atom(r[3]), StartType: atom(r[4]),
			Processes: count(r[5]), Memory: count(r[6]),
		})
	}
	return out, nil
}

// plainApps reads application:info().
func (t *target) plainApps(ctx context.Context, link *node.Peer) ([]App, error) {
	reply, err := t.call(ctx, link, "application", "info")
	if err != nil {
		return nil, err
	}
	info := map[string]etf.Term{}
	for _, e := range tuples(reply) {
		info[atom(e[0])] = e[1]
	}
	loaded, ok := etf.Elements(info["loaded"])
	if !ok || len(loaded) > MaxApps {
		return nil, fmt.Errorf("list applications of %s: got %s", link.Name(), printed(reply))
	}
	state, types := map[string]string{}, map[string]string{}
	for _, s := range []string{"loading", "starting", "running"} {
		list, _ := etf.Elements(info[s])
		for _, e := range list {
			if a, ok := e.(etf.Tuple); ok && len(a) > 0 {
				state[atom(a[0])] = s
			}
		}
	}
	for _, e := range tuples(info["started"]) {
		types[atom(e[0])] = atom(e[1])
	}
	var out []App
	for _, e := range loaded {
		a, ok := e.(etf.Tuple)
		if !ok || len(a) != 3 {
			continue
		}
		name := atom(a[0])
		app := App{Name: name, Description: text(a[1]), Version: text(a[2]), State: state[name], StartType: types[name]}
		if app.State == "" {
			app.State = "loaded"
		}
		out = append(out, app)
	}
	slices.SortFunc(out, func(a, b App) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// EnvQuery asks for the environment of one application. Its terms are printed in
// the syntax that the InspectQuery fields of the same names choose.
type EnvQuery struct {
	InspectQuery // Node, MaxBytes, Elixir, ElixirGuess, Timeout
	App          string
}

// Env is an application's environment. What may be a secret is not in it: the
// target has taken it out.
type Env struct {
	Node, App string
	Entries   []KeyValue
	Total     int
}

// Env reads the environment of one application.
func (m *Manager) Env(ctx context.Context, q EnvQuery) (Env, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return Env{}, err
	}
	reply, err := t.companionCall(ctx, link, envModule, "env", etf.Binary(q.App), etf.Int(maxEnv), etf.Int(cutTerms))
	if err == errNoAgent {
		return Env{}, needsHelper("read the environment of "+q.App, link, "secrets are taken out on the node")
	}
	if err != nil {
		return Env{}, err
	}
	answer, ok := reply.(etf.Tuple)
	switch {
	case ok && len(answer) == 2 && atom(answer[0]) == "error":
		return Env{}, unknownApp(q.App, link)
	case !ok || len(answer) != 3:
		return Env{}, fmt.Errorf("read the environment of %s on %s: got %s", q.App, link.Name(), printed(reply))
	}
	out := Env{Node: link.Name(), App: q.App, Total: int(count(answer[1]))}
	print := printOptions(ctx, t, link, q.InspectQuery)
	for _, e := range tuples(answer[2]) {
		kv := KeyValue{}
		kv.Key, _ = etf.FormatCut(e[0], print)
		kv.Value, kv.Truncated = etf.FormatCut(e[1], print)
		out.Entries = append(out.Entries, kv)
	}
	return out, nil
}

func unknownApp(app string, link *node.Peer) error {
	return hint(fmt.Errorf("find application %s on %s: %w: it is not loaded there", app, link.Name(), ErrNoApp), "`debughost apps %s` lists those that are", link.Name())
}

// needsHelper is the error of what cannot be asked, or not safely, by plain calls.
func needsHelper(what string, link *node.Peer, why string) error {
	return hint(fmt.Errorf("%s on %s: %w: the helper module is not used on this target: %s", what, link.Name(), ErrNotHere, why), `it is not loaded where [targets] agent is "never", or the node refuses it: see `+"`debughost targets`")
}
