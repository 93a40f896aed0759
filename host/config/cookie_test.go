package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/dist"
)

func TestCookieFilesAreReadAsOTPDoes(t *testing.T) {
	dir := t.TempDir()
	for i, tc := range []struct{ content, want, err string }{
		{content: "abc", want: "abc"},
		{content: "abc\n", want: "abc"},
		{content: "abc\r\n\n \n", want: "abc"},
		{content: " a b \n", want: " a b "}, // OTP cuts line ends only
		{content: strings.Repeat("x", 255), want: strings.Repeat("x", 255)},
		{content: "abc\nhunter2", err: "bad characters"},
		{content: "hunter2\tx", err: "bad characters"},
		{content: "hunter2é", err: "bad characters"},
		{content: "", err: "it is empty"},
		{content: "\nabc", err: "bad characters"},
		{content: "\n\n", err: "it is empty"},
		{content: strings.Repeat("hunter2", 1000), err: "longer than"},
	} {
		path := write(t, dir, fmt.Sprint(i), tc.content, 0o400)
		got, err := readCookie(path)
		if tc.err != "" {
			assert.ErrorContains(t, err, tc.err)
			assert.ErrorContains(t, err, path)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.True(t, got.IsZero())
			continue
		}
		require.NoError(t, err)
		assert.True(t, got.Equal(dist.NewCookie(tc.want)), "%q", tc.content)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %q", got, got, got, got), tc.want)
	}
}

func TestCookieFilesOfOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o440, 0o604, 0o644, 0o620, 0o601, 0o777} {
		_, err := readCookie(write(t, dir, fmt.Sprintf("%o", mode), "x", mode))
		assert.ErrorContains(t, err, "accessible by its owner only (chmod 400 it)", "%o", mode)
	}
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for path, want := range map[string]string{fifo: "not a regular file", dir: "not a regular file", filepath.Join(dir, "absent"): "no such file"} {
		_, err := readCookie(path)
		assert.ErrorContains(t, err, want)
	}
}

func TestCookieOfANode(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return write(t, dir, name, name, 0o400) }
	targets := &Targets{
		CookieFile: path("rest"),
		Cookies:    []CookieRule{{"shop*@db?", path("shop-db")}, {"shop*@*", path("shop")}},
	}
	for node, want := range map[string]string{"shop1@db1": "shop-db", "shop1@web": "shop", "blog@db1": "rest"} {
		got, err := targets.CookieFor(node)
		require.NoError(t, err)
		assert.True(t, got.Equal(dist.NewCookie(want)), node)
	}
	// A file that changes is read anew, and one that fails does not fall through.
	require.NoError(t, os.Remove(filepath.Join(dir, "shop")))
	_, err := targets.CookieFor("shop1@web")
	assert.ErrorContains(t, err, "no such file")
	write(t, dir, "shop", "other", 0o400)
	got, err := targets.CookieFor("shop1@web")
	require.NoError(t, err)
	assert.True(t, got.Equal(dist.NewCookie("other")))
}

func TestUserCookieIsWhereOTPHasIt(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	env := map[string]string{"HOME": home}
	cookie := func() string {
		_, c, err := userCookie(func(k string) string { return env[k] })
		if err != nil {
			return err.Error()
		}
		for _, known := range []string{"home", "config", "xdg"} {
			if c.Equal(dist.NewCookie(known)) {
				return known
			}
		}
		return "?"
	}
	assert.Contains(t, cookie(), "none in "+home+"/.erlang.cookie or "+home+"/.config/erlang/.erlang.cookie")
	for _, d := range []string{filepath.Join(xdg, "erlang"), filepath.Join(home, ".config", "erlang")} {
		require.NoError(t, os.MkdirAll(d, 0o700))
	}
	write(t, home, ".config/erlang/.erlang.cookie", "config", 0o400)
	assert.Equal(t, "config", cookie())
	env["XDG_CONFIG_HOME"] = xdg
	write(t, xdg, "erlang/.erlang.cookie", "xdg", 0o400)
	assert.Equal(t, "xdg", cookie())
	write(t, home, ".erlang.cookie", "home", 0o400)
	assert.Equal(t, "home", cookie())
	require.NoError(t, os.Chmod(filepath.Join(home, ".erlang.cookie"), 0o644))
	assert.Contains(t, cookie(), "owner only", "a bad one is not passed over")
	env = nil
	assert.Contains(t, cookie(), "HOME is not set")

	t.Setenv("HOME", home)
	require.NoError(t, os.Chmod(filepath.Join(home, ".erlang.cookie"), 0o400))
	c, err := (&Targets{}).CookieFor("any@where")
	require.NoError(t, err)
	assert.True(t, c.Equal(dist.NewCookie("home")))
}

func TestSandboxCookiesMayHaveBeenReplaced(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(path("cookie"), []byte("secret\n"), 0o600))
	c, err := SandboxCookie(path("cookie"))
	require.NoError(t, err)
	assert.True(t, c.Equal(dist.NewCookie("secret")))

	require.NoError(t, os.Symlink(path("cookie"), path("link")))
	require.NoError(t, syscall.Mkfifo(path("fifo"), 0o600))
	require.NoError(t, os.WriteFile(path("open"), []byte("secret\n"), 0o644))
	require.NoError(t, os.WriteFile(path("odd"), []byte("secret\x00\n"), 0o600))
	for _, name := range []string{"link", "fifo", "open", "odd", "missing"} {
		_, err := SandboxCookie(path(name))
		require.Error(t, err, name)
		assert.Contains(t, err.Error(), path(name))
		assert.NotContains(t, err.Error(), "secret")
	}
}
