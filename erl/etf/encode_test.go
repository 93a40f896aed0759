package etf

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAppendRefusesWhatIsNoTerm(t *testing.T) {
	long := Atom(strings.Repeat("é", 256))
	for name, tt := range map[string]struct {
		term Term
		msg  string
	}{
		"nil":                        {nil, "nil"},
		"nil in a tuple":             {Tuple{nil}, "nil"},
		"nil in a list":              {List{Int(1), nil}, "nil"},
		"nil key":                    {Map{{nil, Int(1)}}, "nil"},
		"nil value":                  {Map{{Int(1), nil}}, "nil"},
		"nil BigInt":                 {BigInt{}, "BigInt: is nil"},
		"nil Fun":                    {(*Fun)(nil), "Fun: is nil"},
		"nil Record":                 {(*Record)(nil), "Record: is nil"},
		"long atom":                  {long, "255 characters"},
		"long ASCII atom":            {Atom(strings.Repeat("x", 256)), "255 characters"},
		"atom of wrong UTF-8":        {Atom("a\xff"), "UTF-8"},
		"long atom in a tuple":       {Tuple{long}, "255 characters"},
		"NaN":                        {Float(math.NaN()), "not finite"},
		"infinity":                   {Float(math.Inf(-1)), "not finite"},
		"bitstring of 0 bits":        {Bitstring{[]byte{1}, 0}, "0 bits"},
		"bitstring of 8 bits":        {Bitstring{[]byte{1}, 8}, "8 bits"},
		"bitstring without bytes":    {Bitstring{nil, 3}, "0 bytes"},
		"improper without elements":  {ImproperList{nil, Int(1)}, "no elements"},
		"improper without a tail":    {ImproperList{[]Term{Int(1)}, nil}, "no tail"},
		"improper with a wrong tail": {ImproperList{[]Term{Int(1)}, long}, "255"},
		"ref without words":          {Ref{Node: "a@b"}, "0 words"},
		"ref of 6 words":             {Ref{Node: "a@b", Len: 6}, "6 words"},
		"ref of a wrong node":        {Ref{Node: long, Len: 1}, "255"},
		"pid of a wrong node":        {Pid{Node: long}, "255"},
		"port of a wrong node":       {Port{Node: long}, "255"},
		"export of a wrong module":   {Export{Module: long}, "255"},
		"export of a wrong function": {Export{Function: long}, "255"},
		"fun of a wrong module":      {&Fun{Module: long}, "255"},
		"fun of a wrong node":        {&Fun{Pid: Pid{Node: long}}, "255"},
		"fun with a wrong term":      {&Fun{FreeTerms: []Term{nil}}, "nil"},
		"record of a wrong module":   {&Record{Module: long}, "255"},
		"record of a wrong field":    {&Record{Fields: []Field{{long, Int(1)}}}, "255"},
		"record of a wrong value":    {&Record{Fields: []Field{{"f", nil}}}, "nil"},
	} {
		t.Run(name, func(t *testing.T) {
			before := []byte("before")
			b, err := Append(before, tt.term)
			var value *ValueError
			require.ErrorAs(t, err, &value)
			require.ErrorContains(t, err, tt.msg)
			require.Equal(t, before, b)
			_, err = Encode(tt.term)
			require.Error(t, err)
			_, err = EncodeCompressed(tt.term)
			require.Error(t, err)
		})
	}
}

func TestAppendRefusesWhatIsTooDeep(t *testing.T) {
	for name, wrap := range map[string]func(Term) Term{
		"tuple":    func(t Term) Term { return Tuple{t} },
		"list":     func(t Term) Term { return List{t} },
		"map":      func(t Term) Term { return Map{{t, t}} },
		"fun":      func(t Term) Term { return &Fun{FreeTerms: []Term{t}} },
		"record":   func(t Term) Term { return &Record{Fields: []Field{{"f", t}}} },
		"improper": func(t Term) Term { return ImproperList{[]Term{Int(1)}, t} },
	} {
		t.Run(name, func(t *testing.T) {
			term := Term(Int(1))
			for range DefaultMaxDepth + 1 {
				if name == "map" { // the key would double it
					term = Map{{Int(1), term}}
				} else {
					term = wrap(term)
				}
			}
			_, err := Append(nil, term)
			require.ErrorIs(t, err, ErrTooDeep)
		})
	}
}

func TestAppendChoosesTheSmallestForm(t *testing.T) {
	for _, tt := range []struct {
		term Term
		want []byte
	}{
		{Int(0), bytesOf(97, 0)},
		{Int(255), bytesOf(97, 255)},
		{Int(256), bytesOf(98, 0, 0, 1, 0)},
		{Int(-1), bytesOf(98, 255, 255, 255, 255)},
		{Int(1 << 31), bytesOf(110, 4, 0, 0, 0, 0, 128)},
		{Int(-1 << 40), bytesOf(110, 6, 1, 0, 0, 0, 0, 0, 1)},
		{Int(math.MinInt64), bytesOf(110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 128)},
		{BigInt{big.NewInt(7)}, bytesOf(97, 7)},
		{BigInt{new(big.Int).SetUint64(math.MaxUint64)}, bytesOf(110, 8, 0, strings.Repeat("\xff", 8))},
		{String(""), bytesOf(106)},
		{String("ab"), bytesOf(107, 0, 2, "ab")},
		{List{Int(97)}, bytesOf(108, 0, 0, 0, 1, 97, 97, 106)},
		{List(nil), bytesOf(106)},
		{Bitstring{[]byte{0xFF}, 3}, bytesOf(77, 0, 0, 0, 1, 3, 0xE0)},
		{Atom("é"), bytesOf(119, 2, "é")},
		{Atom(strings.Repeat("é", 128)), bytesOf(118, 1, 0, strings.Repeat("é", 128))},
	} {
		b, err := Append(nil, tt.term)
		require.NoError(t, err)
		require.Equal(t, tt.want, b, "%#v", tt.term)
	}
	require.Equal(t, bytesOf(110, 8, 0, strings.Repeat("\xff", 8)), AppendUint(nil, math.MaxUint64))
	require.Equal(t, bytesOf(97, 7), AppendUint(nil, 7))

	// A String that is too long for STRING_EXT is a list.
	b, err := Encode(String(strings.Repeat("a", 65536)))
	require.NoError(t, err)
	require.Equal(t, bytesOf(131, 108, 0, 1, 0, 0, 97, 97), b[:8])
	require.True(t, Equal(String(strings.Repeat("a", 65536)), decodeBoth(t, b)))
}

// Append leaves what it was given in place, and a term has one encoding
// wherever it is appended.
func TestAppendAppends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term := genDepth(2).Draw(t, "term")
		alone, err := Append(nil, term)
		require.NoError(t, err)
		both, err := Append([]byte("prefix"), term)
		require.NoError(t, err)
		require.Equal(t, "prefix"+string(alone), string(both))
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	for name, term := range map[string]Term{"everything": everything(), "table": benchTable(50)} {
		b, err := Append(nil, term)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(50, func() {
			if _, err := Append(b[:0], term); err != nil {
				t.Fatal(err)
			}
		}), name)
	}
}
