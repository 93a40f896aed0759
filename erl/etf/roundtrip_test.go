package etf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// decodeBoth decodes b with a Decoder and with a Tape, which must agree, and
// returns the term.
func decodeBoth(t require.TestingT, b []byte) Term {
	got, err := Decode(b, Limits{})
	require.NoError(t, err, "% x", b)
	tape := NewTape(Limits{})
	require.NoError(t, tape.Decode(b), "% x", b)
	c := tape.Cursor()
	require.Equal(t, got, c.Term(), "tape and tree differ: % x", b)
	require.Equal(t, KindNone, c.Kind())
	return got
}

func TestRoundTripKeepsAnyTerm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term := genTerm().Draw(t, "term")
		b, err := Encode(term)
		require.NoError(t, err)
		got := decodeBoth(t, b)
		require.Equal(t, term, got)
		require.True(t, Equal(term, got))

		z, err := EncodeCompressed(term)
		require.NoError(t, err)
		require.Equal(t, term, decodeBoth(t, z))

		got, rest, err := DecodePrefix(append(b, "rest"...), Limits{})
		require.NoError(t, err)
		require.Equal(t, "rest", string(rest))
		require.Equal(t, term, got)
		got, rest, err = DecodePrefix(append(z, "rest"...), Limits{})
		require.NoError(t, err)
		require.Equal(t, "rest", string(rest))
		require.Equal(t, term, got)
	})
}

func TestTruncatedTermIsAnError(t *testing.T) {
	d, tape := NewDecoder(Limits{}), NewTape(Limits{})
	rapid.Check(t, func(t *rapid.T) {
		b, err := Encode(genDepth(2).Draw(t, "term"))
		require.NoError(t, err)
		for n := range b {
			_, err := d.Decode(b[:n])
			require.Error(t, err, "%d of % x", n, b)
			var syntax *SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.LessOrEqual(t, syntax.Offset, n)
			require.Error(t, tape.Decode(b[:n]))
			c := tape.Cursor()
			require.Zero(t, c.Len())
		}
	})
}

// The terms that a node has read and written again are those that it was sent.
func TestRealNodesEchoAnyTerm(t *testing.T) {
	for _, otp := range []string{"25", "27", "29"} {
		t.Run("otp"+otp, func(t *testing.T) {
			var terms []Term
			var sent List
			add := func(term Term) {
				b, err := Encode(term)
				require.NoError(t, err)
				terms, sent = append(terms, term), append(sent, Binary(b))
			}
			for seed := range 400 {
				if term := genTerm().Example(seed); otp == "29" || !hasRecord(term) {
					add(term)
				}
			}
			for _, n := range []int{1, 65535, 65536} { // the limit of STRING_EXT
				add(String(make([]byte, n)))
				add(List{String(make([]byte, n))})
			}
			add(make(Binary, 1<<20))
			for i, echoed := range echo(t, otp, sent) {
				b, ok := echoed.(Binary)
				if !assert.True(t, ok, "the node refused %#v: % x", terms[i], sent[i]) {
					continue
				}
				assert.True(t, Equal(terms[i], decodeBoth(t, b)), "%#v came back as % x", terms[i], b)
			}
		})
	}
}

// echo has a node decode and encode each of the binaries.
func echo(t testing.TB, otp string, sent List) []Term {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	b, err := Encode(sent)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(in, b, 0o600))
	run(t, otp, "escript", goldenScript, "echo", in, out)
	b, err = os.ReadFile(out)
	require.NoError(t, err)
	echoed, err := Decode(b, Limits{})
	require.NoError(t, err)
	elems, ok := Elements(echoed)
	require.True(t, ok)
	require.Len(t, elems, len(sent))
	return elems
}

func hasRecord(t Term) bool {
	switch t := t.(type) {
	case *Record:
		return true
	case Tuple:
		return anyRecord(t)
	case List:
		return anyRecord(t)
	case ImproperList:
		return anyRecord(t.Elems) || hasRecord(t.Tail)
	case *Fun:
		return anyRecord(t.FreeTerms)
	case Map:
		for _, p := range t {
			if hasRecord(p.Key) || hasRecord(p.Value) {
				return true
			}
		}
	}
	return false
}

func anyRecord(elems []Term) bool {
	for _, e := range elems {
		if hasRecord(e) {
			return true
		}
	}
	return false
}
