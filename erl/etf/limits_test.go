package etf

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nest returns a term of depth containers, each begun by open and ended by
// close, around the atom x.
func nest(depth int, open, close string) []byte {
	return bytesOf(131, strings.Repeat(open, depth), 119, 1, "x", strings.Repeat(close, depth))
}

func TestDepthIsLimited(t *testing.T) {
	for name, c := range map[string][2]string{
		"tuple":         {"h\x01", ""},
		"list":          {"l\x00\x00\x00\x01", "j"},
		"improper tail": {"l\x00\x00\x00\x01aXh\x01", ""}, // two containers a time
		"map key":       {"t\x00\x00\x00\x01", "j"},
		"map value":     {"t\x00\x00\x00\x01j", ""},
		"old fun":       {"u\x00\x00\x00\x01gw\x00" + strings.Repeat("\x00", 9) + "w\x00a\x00a\x00", ""},
		"record":        {"C\x00\x00\x00\x01\x00w\x00w\x00w\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := Limits{MaxDepth: 100}
			unit := 1
			if name == "improper tail" {
				unit = 2
			}
			_, err := Decode(nest(100/unit, c[0], c[1]), l)
			require.NoError(t, err)
			require.NoError(t, NewTape(l).Decode(nest(100/unit, c[0], c[1])))
			_, err = Decode(nest(100/unit+1, c[0], c[1]), l)
			require.ErrorIs(t, err, ErrTooDeep)
			require.ErrorIs(t, NewTape(l).Decode(nest(100/unit+1, c[0], c[1])), ErrTooDeep)
		})
	}
}

func TestDepthLimitHasNoWayAround(t *testing.T) {
	const n = 2_000_000 // enough to overflow the stack if each cost a frame
	for name, b := range map[string][]byte{
		"tuples":                  bytesOf(131, strings.Repeat("h\x01", n)),
		"lists without elements":  bytesOf(131, strings.Repeat("l\x00\x00\x00\x00", n), 106),
		"lists as tails":          bytesOf(131, strings.Repeat("l\x00\x00\x00\x01j", n), 106),
		"empty lists as tails":    bytesOf(131, "l\x00\x00\x00\x01j", strings.Repeat("l\x00\x00\x00\x00", n), 106),
		"lists in first elements": bytesOf(131, strings.Repeat("l\x00\x00\x00\x01", n)),
	} {
		t.Run(name, func(t *testing.T) {
			term, err := Decode(b, Limits{})
			errTape := NewTape(Limits{}).Decode(b)
			if err != nil {
				require.ErrorIs(t, err, ErrTooDeep)
				require.ErrorIs(t, errTape, ErrTooDeep)
				return
			}
			require.NoError(t, errTape)
			_, err = Encode(term)
			require.NoError(t, err)
		})
	}
}

func TestElementsAreLimited(t *testing.T) {
	b, err := Encode(Tuple{List{Int(300), Int(300)}, Map{{Int(1), Int(2)}}}) // 2 + 2 + 2
	require.NoError(t, err)
	_, err = Decode(b, Limits{MaxElements: 6})
	require.NoError(t, err)
	_, err = Decode(b, Limits{MaxElements: 5})
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorIs(t, NewTape(Limits{MaxElements: 5}).Decode(b), ErrTooLarge)
}

func TestIntegersAreLimited(t *testing.T) {
	b := bytesOf(131, 111, 0, 0, 4, 1, 0, make([]byte, 1024), 1)
	_, err := Decode(b, Limits{MaxBig: 1025})
	require.NoError(t, err)
	_, err = Decode(b, Limits{MaxBig: 1024})
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorIs(t, NewTape(Limits{MaxBig: 1024}).Decode(b), ErrTooLarge)
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What a few bytes claim is not allocated.
func TestClaimsAllocateNothing(t *testing.T) {
	huge := "\xff\xff\xff\xff"
	for name, b := range map[string][]byte{
		"tuple":      bytesOf(131, 105, huge),
		"list":       bytesOf(131, 108, huge),
		"map":        bytesOf(131, 116, huge),
		"binary":     bytesOf(131, 109, huge),
		"bitstring":  bytesOf(131, 77, huge, 1),
		"big":        bytesOf(131, 111, huge, 0),
		"string":     bytesOf(131, 107, 0xff, 0xff),
		"record":     bytesOf(131, 67, huge, 0),
		"old fun":    bytesOf(131, 117, huge),
		"compressed": bytesOf(131, 80, 3, 0, 0, 0, 0x78, 0x9c),
		"half map":   bytesOf(131, 116, 0, 0, 0, 10, make([]byte, 15)),
	} {
		t.Run(name, func(t *testing.T) {
			d, tape := NewDecoder(Limits{}), NewTape(Limits{})
			n := allocated(func() {
				_, err := d.Decode(b)
				require.Error(t, err)
				require.Error(t, tape.Decode(b))
			})
			assert.Less(t, n, uint64(200<<10))
		})
	}
}

// Nested headers, each of which claims all of the rest of the input, must not
// multiply.
func TestNestedClaimsShareOneBudget(t *testing.T) {
	const levels = 5000
	b := []byte{131}
	for i := range levels {
		b = AppendTupleHeader(b, 5*(levels-i)-10)
	}
	b = append(b, make([]byte, 100)...)
	n := allocated(func() {
		_, err := Decode(b, Limits{})
		require.Error(t, err)
		require.Error(t, NewTape(Limits{}).Decode(b))
	})
	assert.Less(t, n, uint64(100*len(b)))
}

// Memory stays proportional to the input for the cheapest terms of each kind.
func TestMemoryIsProportional(t *testing.T) {
	for name, unit := range map[string]string{
		"nil":           "j",
		"atom":          "w\x00",
		"integer":       "b\x11\x22\x33\x44",
		"empty tuple":   "h\x00",
		"tuple":         "h\x01j",
		"list":          "l\x00\x00\x00\x01jj",
		"empty map":     "t\x00\x00\x00\x00",
		"map":           "t\x00\x00\x00\x01jj",
		"binary":        "m\x00\x00\x00\x01x",
		"string":        "k\x00\x01x",
		"big":           "n\x01\x00\xff",
		"pid":           "gw\x00123456789",
		"reference":     "ew\x0012345",
		"record":        "C\x00\x00\x00\x00\x00w\x00w\x00",
		"export":        "qw\x00w\x00a\x00",
		"bitstring":     "M\x00\x00\x00\x01\x01\x80",
		"old fun":       "u\x00\x00\x00\x00gw\x00123456789w\x00a\x00a\x00",
		"growing tails": "",
	} {
		t.Run(name, func(t *testing.T) {
			const n = 100_000
			b := bytesOf(AppendListHeader([]byte{131}, n), strings.Repeat(unit, n), 106)
			if unit == "" {
				b = bytesOf(131, strings.Repeat("l\x00\x00\x00\x01j", n), 106)
			}
			d := NewDecoder(Limits{})
			perByte := allocated(func() {
				_, err := d.Decode(b)
				require.NoError(t, err)
			}) / uint64(len(b))
			assert.LessOrEqual(t, perByte, uint64(32))
		})
	}
}

func deflate(t require.TestingT, body []byte) []byte {
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, zlib.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return z.Bytes()
}

func TestCompressedTermsAreLimited(t *testing.T) {
	body, err := Append(nil, Binary(make([]byte, 1<<20)))
	require.NoError(t, err)
	z := deflate(t, body)
	head := func(declared int) []byte {
		return binary.BigEndian.AppendUint32([]byte{131, 80}, uint32(declared))
	}
	good := append(head(len(body)), z...)

	got := decodeBoth(t, good)
	require.Len(t, got, 1<<20)
	_, err = Decode(good, Limits{MaxCompressed: len(body)})
	require.NoError(t, err)

	for name, tt := range map[string]struct {
		b    []byte
		max  int
		want string
	}{
		"over the limit":         {good, len(body) - 1, "too large"},
		"longer than declared":   {append(head(len(body)-1), z...), 0, "more than the declared"},
		"shorter than declared":  {append(head(len(body)+1), z...), 0, "bytes: EOF"},
		"declared as nothing":    {append(head(0), z...), 0, "more than the declared"},
		"cut off":                {good[:len(good)-10], 0, "EOF"},
		"without its checksum":   {good[:len(good)-4], 0, "EOF"},
		"with a wrong checksum":  {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), 0, "checksum"},
		"with a dictionary":      {append(head(1), 0x78, 0xbb, 1, 2, 3, 4), 0, "dictionary"},
		"two terms inside":       {append(head(4), deflate(t, []byte{97, 1, 97, 2})...), 0, "bytes follow"},
		"nothing inside":         {append(head(0), deflate(t, nil)...), 0, msgShort},
		"followed by more":       {append(bytes.Clone(good), 0), 0, "bytes follow"},
		"compressed twice":       {append(head(len(good)-1), deflate(t, good[1:])...), 0, "compressed term inside"},
		"a version byte inside":  {append(head(3), deflate(t, []byte{131, 97, 1})...), 0, "unknown tag 131"},
		"unknown tag inside":     {append(head(1), deflate(t, []byte{1})...), 0, "unknown tag 1"},
		"an old inflater's head": {append(head(1), 0x79, 0x9c, 1), 0, "inflate"},
	} {
		t.Run(name, func(t *testing.T) {
			l := Limits{MaxCompressed: tt.max}
			_, err := Decode(tt.b, l)
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, err, NewTape(l).Decode(tt.b))
		})
	}
}

// A bomb costs no more than its limit.
func TestCompressedBomb(t *testing.T) {
	b := append([]byte{131, 80, 0xff, 0xff, 0xff, 0xff}, deflate(t, make([]byte, 10<<20))...)
	d := NewDecoder(Limits{})
	n := allocated(func() {
		_, err := d.Decode(b)
		require.ErrorIs(t, err, ErrTooLarge)
	})
	assert.Less(t, n, uint64(10<<10))

	// It declares less than the limit, but does not hold it.
	b = append([]byte{131, 80, 3, 0xff, 0xff, 0xff}, deflate(t, make([]byte, 1<<20))...)
	n = allocated(func() {
		_, err := d.Decode(b)
		require.ErrorContains(t, err, "EOF")
	})
	assert.Less(t, n, uint64(5<<20))
}

// A peer that sends ever new atoms does not make the Decoder grow.
func TestAtomsAreForgotten(t *testing.T) {
	d := NewDecoder(Limits{})
	for i := range 20_000 {
		name := strings.Repeat("n", 1+i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i%200)
		b, err := Encode(Tuple{Atom(name), Atom("ok")})
		require.NoError(t, err)
		got, err := d.Decode(b)
		require.NoError(t, err)
		require.Equal(t, Tuple{Atom(name), Atom("ok")}, got)
	}
	require.Len(t, d.atoms.slots, 1<<internBits)
}

// The terms of a Decoder refer neither to the input nor to each other.
func TestTermsAreFreeOfTheInput(t *testing.T) {
	b, err := Encode(Tuple{Atom("an_atom"), Binary("binary"), String("string"), Map{{Binary("key"), Binary("value")}}})
	require.NoError(t, err)
	want := decodeBoth(t, bytes.Clone(b))
	d, tape := NewDecoder(Limits{}), NewTape(Limits{})
	got, err := d.Decode(b)
	require.NoError(t, err)
	require.NoError(t, tape.Decode(b))
	fromTape := tapeTerm(tape)
	for i := range b {
		b[i] = 0xAA
	}
	require.Equal(t, want, got)
	require.Equal(t, want, fromTape)
}
