package node

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/etf"
)

// testRef is the reference in the golden files of testdata/outcomes.
var testRef = etf.Ref{Node: "go@localhost", Creation: 7, Len: 3, Words: [5]uint32{1, 2, 3}}

func decodeTerm(b []byte) (etf.Term, error) { return etf.NewDecoder(etf.Limits{}).DecodeBody(b) }

func encode(t testing.TB, term etf.Term) []byte {
	b, err := etf.Append(nil, term)
	require.NoError(t, err)
	return b
}

// goldenOutcomes are exit reasons of erpc:execute_call/4 that real nodes wrote:
// testdata/outcomes has a file a release, with a line "name hex" each.
func goldenOutcomes(t testing.TB) map[string]map[string][]byte {
	files, err := filepath.Glob("testdata/outcomes/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string]map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		release := map[string][]byte{}
		for line := range strings.Lines(string(text)) {
			name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
			release[name], err = hex.DecodeString(digits)
			require.NoError(t, err)
		}
		out[filepath.Base(f)] = release
	}
	return out
}

func TestParseResult(t *testing.T) {
	for file, release := range goldenOutcomes(t) {
		for name, raw := range release {
			result, exc, err := parseResult(raw, testRef, decodeTerm)
			require.NoError(t, err, "%s %s", file, name)
			if name == "return" {
				require.Equal(t, encode(t, etf.Tuple{etf.Atom("ok"), etf.Int(1)}), result)
				continue
			}
			require.Nil(t, result)
			require.Equal(t, Class(name), exc.Class, "%s %s", file, name)
			switch name {
			case "error":
				require.Equal(t, etf.Atom("undef"), exc.Reason)
				require.Equal(t, "nosuch:f/1", exc.raisedAt())
			case "exit", "throw":
				require.Equal(t, etf.Atom("bye"), exc.Reason)
			case "signal":
				require.Equal(t, etf.Atom("killed"), exc.Reason)
			}
		}
	}

	// A result in another encoding of the same term.
	odd := append([]byte{105, 0, 0, 0, 3}, encode(t, testRef)...)
	odd = append(append(odd, 118, 0, 6), "return"...)
	result, exc, err := parseResult(append(odd, 97, 5), testRef, decodeTerm)
	require.NoError(t, err)
	require.Nil(t, exc)
	require.Equal(t, []byte{97, 5}, result)

	// The outcome of another call is none of ours.
	other := testRef
	other.Words[0]++
	_, exc, err = parseResult(encode(t, etf.Tuple{other, etf.Atom("return"), etf.Int(1)}), testRef, decodeTerm)
	require.NoError(t, err)
	require.Equal(t, ClassSignal, exc.Class)

	_, _, err = parseResult([]byte{255}, testRef, decodeTerm)
	require.ErrorContains(t, err, "decode outcome")
}

func TestCallErrorText(t *testing.T) {
	for _, tc := range []struct {
		class  Class
		reason etf.Term
		stack  etf.Term
		want   string
	}{
		{ClassError, etf.Atom("badarg"), nil, "call m:f/1 on a@b: error: badarg"},
		{ClassError, etf.Atom("undef"), etf.List{}, "call m:f/1 on a@b: error: undef"},
		{ClassError, etf.Atom("badarg"), etf.List{etf.Atom("odd")}, "call m:f/1 on a@b: error: badarg"},
		{ClassError, etf.Atom("badarg"), etf.List{etf.Tuple{etf.Int(1), etf.Int(2), etf.Int(3)}}, "call m:f/1 on a@b: error: badarg"},
		{ClassError, etf.Atom("badarg"), etf.List{etf.Tuple{etf.Atom("x"), etf.Atom("y"), etf.String("ab"), etf.List{}}}, "call m:f/1 on a@b: error: badarg in x:y/2"},
		{ClassThrow, etf.Binary(make([]byte, 4096)), nil, "..."},
	} {
		e := &CallError{Node: "a@b", Module: "m", Function: "f", Arity: 1, Class: tc.class, Reason: tc.reason, Stack: tc.stack}
		require.Contains(t, e.Error(), tc.want)
		require.Less(t, len(e.Error()), 1000)
	}
}

func FuzzParseResult(f *testing.F) {
	for _, release := range goldenOutcomes(f) {
		for _, raw := range release {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, exc, err := parseResult(raw, testRef, decodeTerm)
		if err == nil && exc != nil {
			_, _ = exc.Error(), exc.Undefined()
		}
	})
}

func FuzzParseSystem(f *testing.F) {
	pid, ref := etf.Pid{Node: "a@b", ID: 1}, etf.Ref{Node: "a@b", Len: 3}
	alias := etf.ImproperList{Elems: []etf.Term{etf.Atom("alias")}, Tail: ref}
	isAuth := etf.Tuple{etf.Atom("is_auth"), etf.Atom("a@b")}
	for _, t := range []etf.Term{
		etf.Tuple{etf.Atom("$gen_call"), etf.Tuple{pid, ref}, isAuth},
		etf.Tuple{etf.Atom("$gen_call"), etf.Tuple{pid, alias}, isAuth},
		etf.Tuple{etf.Atom("$gen_call"), etf.Tuple{pid, etf.ImproperList{Elems: []etf.Term{alias}, Tail: ref}}, isAuth},
		etf.Tuple{etf.Atom("io_request"), pid, ref, etf.Tuple{etf.Atom("put_chars"), etf.Atom("unicode"), etf.Binary("hi")}},
		etf.Tuple{etf.Atom("io_request"), pid, ref, etf.Atom("getopts")},
	} {
		f.Add(encode(f, t))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := parseSystem(raw)
		if req.reply != nil {
			encode(t, req.reply) // what we answer can be sent
		}
	})
}
