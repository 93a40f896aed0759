package etf

import (
	"hash/maphash"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestEqual(t *testing.T) {
	huge := func() BigInt { return BigInt{new(big.Int).Lsh(big.NewInt(1), 70)} }
	for name, tt := range map[string]struct{ a, b Term }{
		"string and list":        {String("ab"), List{Int(97), Int(98)}},
		"empty string and list":  {String(""), List(nil)},
		"maps in another order":  {Map{{Int(1), Int(2)}, {Int(3), Int(4)}}, Map{{Int(3), Int(4)}, {Int(1), Int(2)}}},
		"bits that do not count": {Bitstring{[]byte{0xE0}, 3}, Bitstring{[]byte{0xFF}, 3}},
		"BigInt of a small one":  {BigInt{big.NewInt(5)}, Int(5)},
		"BigInt":                 {huge(), huge()},
		"nil":                    {nil, nil},
		"nil fun":                {(*Fun)(nil), (*Fun)(nil)},
		"nil record":             {(*Record)(nil), (*Record)(nil)},
		"bitstring of nothing":   {Bitstring{}, Bitstring{}},
	} {
		assert.True(t, Equal(tt.a, tt.b), name)
		assert.True(t, Equal(tt.b, tt.a), name)
	}
	for name, tt := range map[string]struct{ a, b Term }{
		"integer and float":    {Int(1), Float(1)},
		"signed zeros":         {Float(0), Float(math.Copysign(0, -1))},
		"atom and binary":      {Atom("a"), Binary("a")},
		"tuple and list":       {Tuple{Int(1)}, List{Int(1)}},
		"lists":                {List{Int(1)}, List{Int(2)}},
		"lengths":              {List{Int(1)}, List{Int(1), Int(1)}},
		"string and list":      {String("ab"), List{Int(97), Int(99)}},
		"string and long list": {String("a"), List{Int(97), Int(98)}},
		"string and atom list": {String("a"), List{Atom("a")}},
		"string and binary":    {String("a"), Binary("a")},
		"binary and string":    {Binary("a"), String("a")},
		"map values":           {Map{{Int(1), Int(2)}}, Map{{Int(1), Int(3)}}},
		"map keys":             {Map{{Int(1), Int(2)}, {Int(2), Int(2)}}, Map{{Int(3), Int(2)}, {Int(1), Int(2)}}},
		"map sizes":            {Map{{Int(1), Int(2)}}, Map{}},
		"bits":                 {Bitstring{[]byte{0xE0}, 3}, Bitstring{[]byte{0xE0}, 4}},
		"bytes before bits":    {Bitstring{[]byte{1, 0xE0}, 3}, Bitstring{[]byte{2, 0xE0}, 3}},
		"BigInt and Int":       {huge(), Int(1)},
		"BigInt and atom":      {huge(), Atom("a")},
		"Int and atom":         {Int(0), Atom("a")},
		"nil and something":    {nil, Int(0)},
		"funs":                 {&Fun{Module: "m"}, &Fun{Module: "n"}},
		"fun and nil":          {&Fun{}, (*Fun)(nil)},
		"records":              {&Record{Name: "a"}, &Record{Name: "b"}},
		"record fields":        {&Record{Fields: []Field{{"a", Int(1)}}}, &Record{Fields: []Field{{"b", Int(1)}}}},
		"record and nil":       {&Record{}, (*Record)(nil)},
		"improper tails":       {ImproperList{[]Term{Int(1)}, Int(1)}, ImproperList{[]Term{Int(1)}, Int(2)}},
		"pids":                 {Pid{ID: 1}, Pid{ID: 1, Creation: 1}},
	} {
		assert.False(t, Equal(tt.a, tt.b), name)
		assert.False(t, Equal(tt.b, tt.a), name)
	}
	for _, a := range everything() {
		for _, b := range everything() {
			assert.Equal(t, kindOfTerm(t, a) == kindOfTerm(t, b) && assert.ObjectsAreEqual(a, b), Equal(a, b), "%#v %#v", a, b)
		}
	}
}

func kindOfTerm(t *testing.T, term Term) Kind {
	c := tapeOf(t, term).Cursor()
	return c.Kind()
}

// shuffle returns t with the pairs of all maps in another order and Strings as
// Lists: the same term in another form.
func shuffle(t *rapid.T, term Term) Term {
	all := func(elems []Term) []Term {
		out := make([]Term, len(elems))
		for i := range elems {
			out[i] = shuffle(t, elems[i])
		}
		return out
	}
	switch x := term.(type) {
	case String:
		elems, _ := Elements(x)
		return List(elems)
	case List:
		return List(all(x))
	case Tuple:
		return Tuple(all(x))
	case ImproperList:
		return ImproperList{all(x.Elems), shuffle(t, x.Tail)}
	case Map:
		m := Map{}
		for _, p := range rapid.Permutation(x).Draw(t, "order") {
			m = append(m, Pair{shuffle(t, p.Key), shuffle(t, p.Value)})
		}
		return m
	}
	return term
}

func TestEqualIgnoresTheForm(t *testing.T) {
	seed := maphash.MakeSeed()
	rapid.Check(t, func(t *rapid.T) {
		a := genTerm().Draw(t, "a")
		b := shuffle(t, a)
		require.True(t, Equal(a, b))
		require.True(t, Equal(b, a))
		require.Equal(t, hashPair(seed, &Pair{a, a}), hashPair(seed, &Pair{b, b}))

		other := genTerm().Draw(t, "other")
		x, err := Append(nil, a)
		require.NoError(t, err)
		y, err := Append(nil, other)
		require.NoError(t, err)
		if string(x) == string(y) {
			require.True(t, Equal(a, other))
		}
		require.Equal(t, Equal(a, other), Equal(other, a))
	})
}

// Maps in opposite orders are not compared pair by pair with each other.
func TestEqualOfLargeMapsIsFast(t *testing.T) {
	const n = 200_000
	a, b, same := make(Map, n), make(Map, n), make(Map, n)
	for i := range n {
		a[i] = Pair{Int(i), String("value")}
		b[n-1-i] = a[i]
		same[i] = Pair{Int(1), Int(1)} // no real map, but a peer may send it
	}
	same[0].Value = Int(2)
	start := time.Now()
	require.True(t, Equal(a, b))
	b[0].Value = Int(1)
	require.False(t, Equal(a, b))
	reversed := append(append(Map{}, same[1:]...), same[0])
	require.True(t, Equal(same, reversed))
	require.Less(t, time.Since(start), 20*time.Second) // quadratic would be minutes
}

func TestElements(t *testing.T) {
	elems, ok := Elements(String("\x00\xff"))
	require.True(t, ok)
	require.Equal(t, []Term{Int(0), Int(255)}, elems)
	elems, ok = Elements(List{Atom("a")})
	require.True(t, ok)
	require.Equal(t, []Term{Atom("a")}, elems)
	for _, term := range []Term{Tuple{}, ImproperList{[]Term{Int(1)}, Int(2)}, Binary("a"), nil} {
		_, ok = Elements(term)
		require.False(t, ok)
	}
}
