package etf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzLimits keep a round short; they are also low enough to be reached.
var fuzzLimits = Limits{MaxDepth: 200, MaxElements: 1 << 12, MaxCompressed: 1 << 16, MaxBig: 1 << 10}

func addCorpus(f *testing.F, body bool) {
	start := 0
	if body {
		start = 1
	}
	for _, v := range vectors() {
		f.Add(append([]byte{version}, v.body...)[start:])
	}
	b, err := Encode(everything())
	require.NoError(f, err)
	f.Add(b[start:])
	files, err := filepath.Glob(filepath.Join("testdata", "otp29", "*.etf"))
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		if len(b) < 2000 {
			f.Add(b[start:])
		}
	}
}

// checkAgreement has both decoders read b, and holds their results against
// each other and against the encoder.
func checkAgreement(t *testing.T, tree func([]byte) (Term, error), tape *Tape, flat func([]byte) error, b []byte) {
	before := bytes.Clone(b)
	term, err := tree(b)
	errTape := flat(b)
	require.Equal(t, before, b, "the input was changed")
	if err != nil {
		checkError(t, err)
		checkError(t, errTape)
		c := tape.Cursor()
		require.Zero(t, c.Len())
		return
	}
	require.NoError(t, errTape)
	walk(t, tape.Cursor())
	require.Equal(t, term, tapeTerm(tape))
	require.True(t, Equal(term, term))

	again, err := Encode(term)
	require.NoError(t, err)
	second, err := Decode(again, Limits{})
	require.NoError(t, err)
	require.Equal(t, term, second)
}

func checkError(t *testing.T, err error) {
	require.Error(t, err)
	var syntax *SyntaxError
	var unknown *UnknownTagError
	known := errors.As(err, &syntax) || errors.As(err, &unknown) || errors.Is(err, ErrTooDeep) || errors.Is(err, ErrTooLarge)
	require.True(t, known, "%T: %v", err, err)
}

// walk reads everything that a cursor reaches by every method that fits.
func walk(t *testing.T, c Cursor) {
	for c.Len() > 0 {
		left, kind, skipped := c.Len(), c.Kind(), c
		require.True(t, skipped.Skip())
		var ok bool
		var in Cursor
		switch kind {
		case KindAtom:
			_, ok = c.Atom()
		case KindInt:
			_, ok = c.Int()
		case KindFloat:
			_, ok = c.Float()
		case KindBinary:
			_, ok = c.Bytes()
		case KindBitstring:
			_, _, ok = c.Bits()
		case KindString, KindList:
			in, ok = c.EnterList()
		case KindTuple:
			in, ok = c.EnterTuple()
		case KindMap:
			in, ok = c.EnterMap()
		case KindPid:
			_, ok = c.Pid()
		case KindPort:
			_, ok = c.Port()
		case KindRef:
			_, ok = c.Ref()
		case KindBigInt, KindImproperList, KindFun, KindExport, KindRecord:
			ok = c.Term() != nil
		}
		require.True(t, ok, "kind %d", kind)
		require.Equal(t, left-1, c.Len())
		require.Equal(t, skipped.words, c.words)
		walk(t, in)
	}
}

// FuzzDecode: the tree and the tape agree on any input, and what they read can
// be written again.
func FuzzDecode(f *testing.F) {
	addCorpus(f, false)
	d, tape := NewDecoder(fuzzLimits), NewTape(fuzzLimits)
	f.Fuzz(func(t *testing.T, b []byte) {
		checkAgreement(t, d.Decode, tape, tape.Decode, b)
	})
}

// FuzzCompressed puts any bytes into a compressed term, whole and damaged.
func FuzzCompressed(f *testing.F) {
	for _, v := range vectors() {
		f.Add(v.body, uint32(len(v.body)), uint16(0), byte(0))
	}
	f.Add([]byte{97, 1}, uint32(3), uint16(9), byte(1))
	d, tape := NewDecoder(fuzzLimits), NewTape(fuzzLimits)
	f.Fuzz(func(t *testing.T, body []byte, declared uint32, at uint16, flip byte) {
		b := append([]byte{version, tagCompressed, byte(declared >> 24), byte(declared >> 16), byte(declared >> 8), byte(declared)}, deflate(t, body)...)
		b[2+int(at)%(len(b)-2)] ^= flip
		checkAgreement(t, d.Decode, tape, tape.Decode, b)
	})
}

// FuzzInflate has the bytes be the compressed ones.
func FuzzInflate(f *testing.F) {
	for _, v := range vectors() {
		f.Add(append([]byte{0, 0, 0, byte(len(v.body))}, deflate(f, v.body)...))
	}
	d, tape := NewDecoder(fuzzLimits), NewTape(fuzzLimits)
	f.Fuzz(func(t *testing.T, b []byte) {
		checkAgreement(t, d.Decode, tape, tape.Decode, append([]byte{version, tagCompressed}, b...))
		if _, rest, err := d.DecodePrefix(append([]byte{version, tagCompressed}, b...)); err == nil {
			require.LessOrEqual(t, len(rest), len(b))
		}
	})
}

// FuzzAtomCache reads terms of a distribution message, which refer to a cache
// of any atoms and are followed by others.
func FuzzAtomCache(f *testing.F) {
	f.Add([]byte("ok\x00error\x00\xff\x00"), bytesOf(104, 2, 82, 0, 88, 82, 1, make([]byte, 12), 82, 2))
	for _, v := range vectors() {
		f.Add([]byte("ok"), bytesOf(104, 2, 82, 0, v.body))
	}
	d, tape := NewDecoder(fuzzLimits), NewTape(fuzzLimits)
	f.Fuzz(func(t *testing.T, names, b []byte) {
		var refs []Atom
		for _, name := range bytes.Split(names, []byte{0}) {
			refs = append(refs, Atom(name))
		}
		d.SetCache(refs)
		tape.SetCache(refs)
		checkAgreement(t, d.DecodeBody, tape, tape.DecodeBody, b)

		_, rest, err := d.DecodeBodyPrefix(b)
		restTape, errTape := tape.DecodeBodyPrefix(b)
		require.Equal(t, err == nil, errTape == nil)
		require.Equal(t, rest, restTape)
	})
}

// FuzzEqual: Equal is about the value and never about its form, for any two
// terms that a peer may send.
func FuzzEqual(f *testing.F) {
	for _, v := range vectors() {
		f.Add(v.body, v.body)
	}
	d := NewDecoder(fuzzLimits)
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, errA := d.DecodeBody(x)
		b, errB := d.DecodeBody(y)
		if errA != nil || errB != nil {
			return
		}
		require.True(t, Equal(a, a))
		require.Equal(t, Equal(a, b), Equal(b, a))
		m, n := Map{{a, b}, {b, a}}, Map{{b, a}, {a, b}}
		require.True(t, Equal(m, n))
	})
}
