package sandboxprocess

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/sdk"
)

// TestMain makes this binary a keeper when it is started as one.
func TestMain(m *testing.M) {
	if keeper.Main() {
		return
	}
	os.Exit(m.Run())
}

func configured(t *testing.T) *Strategy {
	t.Helper()
	s := New("1").(*Strategy)
	require.NoError(t, s.Configured(sdk.WithStateDir(t.Context(), t.TempDir())))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConfigOfACommand(t *testing.T) {
	s := configured(t)
	spec, err := s.spec(sdk.SandboxSpec{
		ID: "a", Config: []byte(`{"command": ["sleep", "1"], "env": {"B": "2", "A": "1=1"}, "dir": "/tmp", "stop_signal": "int"}`),
		Limits: sdk.SandboxLimits{Memory: 5}, Orphan: time.Second,
	})
	require.NoError(t, err)
	require.Equal(t, keeper.Spec{
		ID: "a", Command: []string{"sleep", "1"}, Env: []string{"A=1=1", "B=2"}, Dir: "/tmp", StopSignal: syscall.SIGINT,
		LogSize: 8 << 20, LogRate: 1 << 20, Limits: sdk.SandboxLimits{Memory: 5}, Orphan: time.Second,
	}, spec)
	for config, want := range map[string]string{
		`{}`:               "command: this key is required",
		`{"command": []}`:  "command: length: want at least 1",
		`{"comand": "x"}`:  "comand: unknown key",
		`{"command": "x"}`: "command: want a list",
		`{"command": ["x"], "stop_signal": "SIGNONE"}`: `stop_signal: there is no signal "SIGNONE"`,
		`{"command": ["x"], "dir": "here"}`:            "dir: want an absolute path",
		``:                                             "not valid JSON",
	} {
		_, err := s.Create(t.Context(), sdk.SandboxSpec{ID: "a", Config: []byte(config)})
		require.ErrorContains(t, err, want, config)
	}
}

// What the host is told of a sandbox, from its start to its end.
func TestLife(t *testing.T) {
	s := configured(t)
	h, err := s.Create(t.Context(), sdk.SandboxSpec{
		ID: "a", Config: []byte(`{"command": ["sh", "-c", "echo $GREETING; exec sleep 1000"], "env": {"GREETING": "hello"}}`),
		Limits: sdk.SandboxLimits{Memory: 1 << 30},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Destroy(context.Background(), "a")) }()
	st, err := s.Inspect(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, sdk.SandboxRunning, st.State)
	require.Positive(t, st.OSPid)
	require.WithinDuration(t, time.Now(), st.Started, 10*time.Second)
	require.Contains(t, st.Enforced, "memory")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = s.Logs(ctx, "a", sdk.LogOptions{Follow: true}, func(l sdk.LogLine) error {
		require.Equal(t, "hello", string(l.Line))
		return context.Canceled
	})
	require.NoError(t, ctx.Err(), "the line came")
	require.NoError(t, s.Recover(t.Context(), h))
	require.ErrorIs(t, s.Recover(t.Context(), sdk.SandboxHandle{ID: "a", State: []byte("x")}), sdk.ErrNotFound)
	require.NoError(t, s.Stop(t.Context(), "a", 5*time.Second))
	exit, err := s.Wait(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, 15, exit.Signal)
	st, err = s.Inspect(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, &exit, st.Exit)
}

// With a view a command sees less, and what the section shows.
func TestView(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	for name, c := range map[string]struct {
		view string
		show []string
		code int
	}{"off": {keeper.ViewOff, nil, 0}, "auto": {keeper.ViewAuto, nil, 1}, "shown": {keeper.ViewAuto, []string{secret}, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := configured(t)
			s.config.View, s.config.Show = c.view, c.show
			config, err := json.Marshal(map[string]any{"command": []string{"cat", secret}})
			require.NoError(t, err)
			_, err = s.Create(t.Context(), sdk.SandboxSpec{ID: "a", Config: config})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Destroy(context.Background(), "a")) }()
			exit, err := s.Wait(t.Context(), "a")
			require.NoError(t, err)
			st, err := s.Inspect(t.Context(), "a")
			require.NoError(t, err)
			if c.view != keeper.ViewOff && strings.HasPrefix(st.Enforced["view"], "none") {
				t.Skip(st.Enforced["view"])
			}
			require.Equal(t, c.code, exit.Code)
		})
	}
}

// The page has every key, with its default, and no other.
func TestPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../../docs/sandbox-process.md")
	require.NoError(t, err)
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `([^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		shown[m[1]] = m[2]
	}
	want := map[string]string{}
	for _, config := range []any{New("1").Describe().Config, &Command{StopSignal: "SIGTERM"}} {
		raw, err := sdk.ConfigSchema(config)
		require.NoError(t, err)
		var schema struct {
			Properties map[string]struct {
				Default     json.RawMessage
				Description string
			}
		}
		require.NoError(t, json.Unmarshal(raw, &schema))
		for key, p := range schema.Properties {
			want[key] = string(p.Default)
			if key == "command" {
				want[key] = "required"
			}
			require.NotEmpty(t, p.Description, key)
		}
	}
	require.Equal(t, want, shown)
}
