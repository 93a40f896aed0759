package etf

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func tapeOf(t *testing.T, term Term) *Tape {
	b, err := Encode(term)
	require.NoError(t, err)
	tape := NewTape(Limits{})
	require.NoError(t, tape.Decode(b))
	return tape
}

// everything has one term of each kind.
func everything() Tuple {
	return Tuple{
		Atom("ok"), Atom("é"), Int(7), Int(-7), Int(math.MaxInt64), Int(math.MinInt64),
		BigInt{new(big.Int).Lsh(big.NewInt(1), 64)}, BigInt{new(big.Int).Lsh(big.NewInt(-1), 64)}, Float(1.5),
		Binary("bin"), Bitstring{[]byte{0xE0}, 3}, String("str"), List{}, List{Int(1), Atom("x")},
		ImproperList{[]Term{Int(1)}, Int(2)}, Tuple{}, Tuple{Int(1)}, Map{}, Map{{Atom("k"), Int(1)}},
		Pid{"a@b", 7, 2, 1}, Port{"a@b", 7, 1}, Ref{"a@b", 1, 5, [5]uint32{1, 2, 3, 4, 5}},
		&Fun{Module: "m", FreeTerms: []Term{Int(1)}}, Export{"m", "f", 2},
		&Record{Module: "m", Name: "r", Exported: true, Fields: []Field{{"a", Int(1)}, {"b", List{}}}},
	}
}

func TestCursorReadsEachKind(t *testing.T) {
	all := everything()
	tape := tapeOf(t, all)
	root := tape.Cursor()
	require.Equal(t, KindTuple, root.Kind())
	c, ok := root.EnterTuple()
	require.True(t, ok)
	require.Equal(t, KindNone, root.Kind())
	require.Equal(t, len(all), c.Len())

	name, ok := c.AtomBytes()
	assert.True(t, ok)
	assert.Equal(t, "ok", string(name))
	atom, ok := c.Atom()
	assert.True(t, ok)
	assert.Equal(t, Atom("é"), atom)
	for _, want := range []int64{7, -7, math.MaxInt64, math.MinInt64} {
		assert.Equal(t, KindInt, c.Kind())
		v, ok := c.Int()
		assert.True(t, ok)
		assert.Equal(t, want, v)
	}
	for range 2 {
		assert.Equal(t, KindBigInt, c.Kind())
		assert.True(t, c.Skip())
	}
	f, ok := c.Float()
	assert.True(t, ok)
	assert.Equal(t, 1.5, f)
	b, ok := c.Bytes()
	assert.True(t, ok)
	assert.Equal(t, "bin", string(b))
	assert.Equal(t, KindBitstring, c.Kind())
	b, bits, ok := c.Bits()
	assert.True(t, ok)
	assert.Equal(t, []byte{0xE0}, b)
	assert.Equal(t, uint8(3), bits)
	assert.Equal(t, KindString, c.Kind())
	b, ok = c.Bytes()
	assert.True(t, ok)
	assert.Equal(t, "str", string(b))
	for _, n := range []int{0, 2} {
		assert.Equal(t, KindList, c.Kind())
		in, ok := c.EnterList()
		assert.True(t, ok)
		assert.Equal(t, n, in.Len())
	}
	assert.Equal(t, KindImproperList, c.Kind())
	_, ok = c.EnterList()
	assert.False(t, ok)
	assert.Equal(t, ImproperList{[]Term{Int(1)}, Int(2)}, c.Term())
	for _, n := range []int{0, 1} {
		in, ok := c.EnterTuple()
		assert.True(t, ok)
		assert.Equal(t, n, in.Len())
	}
	for _, n := range []int{0, 2} {
		in, ok := c.EnterMap()
		assert.True(t, ok)
		assert.Equal(t, n, in.Len())
	}
	pid, ok := c.Pid()
	assert.True(t, ok)
	assert.Equal(t, all[19], pid)
	port, ok := c.Port()
	assert.True(t, ok)
	assert.Equal(t, all[20], port)
	ref, ok := c.Ref()
	assert.True(t, ok)
	assert.Equal(t, all[21], ref)
	for i, kind := range []Kind{KindFun, KindExport, KindRecord} {
		assert.Equal(t, kind, c.Kind())
		assert.Equal(t, all[22+i], c.Term())
	}
	assert.Zero(t, c.Len())
	assert.Equal(t, KindNone, c.Kind())
	assert.Nil(t, c.Term())
	assert.False(t, c.Skip())
}

// A method that finds another kind, or nothing, says so and stays.
func TestCursorStaysOnAnotherKind(t *testing.T) {
	tape := tapeOf(t, everything())
	root := tape.Cursor()
	c, _ := root.EnterTuple()
	for {
		kind, left := c.Kind(), c.Len()
		read := map[Kind]func() bool{
			KindAtom:      func() bool { _, ok := c.AtomBytes(); return ok },
			KindInt:       func() bool { _, ok := c.Int(); return ok },
			KindFloat:     func() bool { _, ok := c.Float(); return ok },
			KindBinary:    func() bool { _, ok := c.Bytes(); return ok },
			KindBitstring: func() bool { _, _, ok := c.Bits(); return ok },
			KindList:      func() bool { _, ok := c.EnterList(); return ok },
			KindTuple:     func() bool { _, ok := c.EnterTuple(); return ok },
			KindMap:       func() bool { _, ok := c.EnterMap(); return ok },
			KindPid:       func() bool { _, ok := c.Pid(); return ok },
			KindPort:      func() bool { _, ok := c.Port(); return ok },
			KindRef:       func() bool { _, ok := c.Ref(); return ok },
		}
		if kind == KindString { // a list and bytes both
			delete(read, KindBinary)
			delete(read, KindList)
		}
		delete(read, kind)
		for other, f := range read {
			assert.False(t, f(), "read kind %d as %d", kind, other)
		}
		if kind != KindAtom {
			_, ok := c.Atom()
			assert.False(t, ok)
			assert.False(t, c.IsAtom("ok"))
		}
		assert.Equal(t, left, c.Len())
		if kind == KindNone {
			break
		}
		c.Skip()
	}
}

// A list of bytes reads like any list, whichever way it was sent.
func TestCursorEntersStrings(t *testing.T) {
	for _, b := range [][]byte{
		bytesOf(107, 0, 2, 1, 200),
		bytesOf(108, 0, 0, 0, 2, 97, 1, 97, 200, 106),
		bytesOf(108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 200),
	} {
		tape := NewTape(Limits{})
		require.NoError(t, tape.DecodeBody(b))
		root := tape.Cursor()
		c, ok := root.EnterList()
		require.True(t, ok)
		require.Equal(t, 2, c.Len())
		for _, want := range []int64{1, 200} {
			v, ok := c.Int()
			require.True(t, ok)
			require.Equal(t, want, v)
		}
		require.Equal(t, KindNone, c.Kind())
	}
}

func TestTapeIsEmptyAfterAnError(t *testing.T) {
	tape := tapeOf(t, Tuple{Int(1)})
	for _, bad := range [][]byte{nil, {131}, {131, 104, 2, 97, 1}, {131, 97, 1, 1}, {131, 80, 0, 0, 0, 1, 1}} {
		require.Error(t, tape.Decode(bad))
		c := tape.Cursor()
		require.Equal(t, KindNone, c.Kind())
		require.Nil(t, c.Term())
	}
	_, err := tape.DecodeBodyPrefix([]byte{104, 1})
	require.Error(t, err)
	require.NoError(t, tape.Decode([]byte{131, 97, 1}))
	require.Equal(t, Int(1), tapeTerm(tape))
	tape.Release()
	c := tape.Cursor()
	require.Equal(t, KindNone, c.Kind())
}

func TestTapeAllocatesNothing(t *testing.T) {
	b, err := Encode(benchTable(100))
	require.NoError(t, err)
	tape := NewTape(Limits{})
	read := func() {
		if err := tape.Decode(b); err != nil || sumRows(tape) == 0 {
			t.Fatal(err)
		}
	}
	read()
	require.Zero(t, testing.AllocsPerRun(20, read))
}

func TestSetCacheInvalidatesTheTape(t *testing.T) {
	tape := tapeOf(t, Int(1))
	tape.SetCache([]Atom{"a"})
	require.Nil(t, tapeTerm(tape))
}
