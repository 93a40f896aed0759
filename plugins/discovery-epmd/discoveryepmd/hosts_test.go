package discoveryepmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseHosts(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                    {},
		"% nothing\n":                         {},
		"'db1.example.org'.\n'db2'.\n":        {"db1.example.org", "db2"},
		"db1. 'db2'\n.\n%% end":               {"db1", "db2"},
		"'db1'.% comment\n\t'db1'.\r\n'x:1'.": {"db1", "x:1"},
		"'::1'.":                              {"::1"},
	} {
		got, err := parseHosts([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseHostsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"'db1'":                "line 1: there is no full stop behind db1",
		"'db1'\n\n'db2'.":      "line 1: there is no full stop behind db1",
		"'db1'.\ndb1.example.": "line 2: the name db1 goes on behind its full stop; a name with dots needs quotes",
		"Db1.":                 `line 1: "Db1." does not begin an atom`,
		"[db1].":               `line 1: "[db1]." does not begin an atom`,
		"'db1\n'.":             "line 1: the quote is not closed",
		"'db1":                 "line 1: the quote is not closed",
		`'db\x41'.`:            `line 1: a \ has no place in a host name`,
		"''.":                  `line 1: "" is not a host`,
		"'a b'.":               `line 1: "a b" is not a host`,
		"'db1:0'.":             `line 1: "db1:0" has no valid port`,
		"'\xff'.":              "it is not UTF-8",
	} {
		_, err := parseHosts([]byte(text))
		require.EqualError(t, err, want, text)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add([]byte("'db1.example.org'.\n% two\ndb2.\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		hosts, err := parseHosts(data)
		if err != nil {
			return
		}
		// What was read can be written and read again.
		var b strings.Builder
		for _, h := range hosts {
			b.WriteString("'" + h + "'.\n")
		}
		again, err := parseHosts([]byte(b.String()))
		require.NoError(t, err)
		require.Equal(t, hosts, again)
	})
}

func TestHostsFileLimits(t *testing.T) {
	dir := t.TempDir()
	_, err := (&hostsFile{path: dir}).read()
	require.ErrorContains(t, err, "is not a file")
	big := filepath.Join(dir, "big")
	require.NoError(t, os.WriteFile(big, make([]byte, maxHostsFile+1), 0o600))
	_, err = (&hostsFile{path: big}).read()
	require.ErrorContains(t, err, "at most")
}

func TestHostsDirsHaveTheRootOfOTP(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "lib/erlang/bin"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "lib/erlang/bin/erl"), []byte("#!/bin/sh\n"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(root, "bin"), 0o700))
	require.NoError(t, os.Symlink("../lib/erlang/bin/erl", filepath.Join(root, "bin/erl")))
	t.Setenv("PATH", filepath.Join(root, "bin"))
	t.Setenv("ROOTDIR", "")
	t.Setenv("ERL_ROOTDIR", "")
	root, err := filepath.EvalSymlinks(root)
	require.NoError(t, err)
	require.Contains(t, hostsDirs(), filepath.Join(root, "lib/erlang"))
	t.Setenv("ERL_ROOTDIR", "/opt/elsewhere")
	require.Contains(t, hostsDirs(), "/opt/elsewhere")
}

func TestLocalHost(t *testing.T) {
	require.Equal(t, "localhost", localHost("", true))
	require.Equal(t, "web1", localHost("web1.example.org", false))
	require.Equal(t, "web1.example.org", localHost("web1.example.org", true))
	require.Equal(t, "web1", localHost("web1", false))
	require.True(t, strings.HasPrefix(localHost("web1", true), "web1"))
}

func TestFullName(t *testing.T) {
	hosts := []byte("127.0.0.1 localhost # web1.wrong\n10.0.0.5\tweb1.example.org web1\n\n::1\n")
	require.Equal(t, "web1.example.org", fullName("web1", hosts, nil))
	require.Equal(t, "", fullName("web2", hosts, nil))
	require.Equal(t, "web2.corp.example", fullName("web2", hosts, []byte("nameserver 10.0.0.1\nsearch corp.example. other\n")))
	require.Equal(t, "", fullName("web2", nil, []byte("search .\ndomain\n")))
}
