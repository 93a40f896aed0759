package etf

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bytesOf concatenates bytes, strings and slices.
func bytesOf(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

type vector struct {
	name string
	body []byte // without the version byte
	want Term
	beam bool // a real node reads it too
}

// vectors are terms written by hand: all tags, also those that nodes no longer
// write, and spellings that they never wrote but read.
func vectors() []vector {
	node := bytesOf(119, 3, "a@b")
	pid := bytesOf(103, node, 0, 0, 0, 7, 0, 0, 0, 2, 1)
	uniq := strings.Repeat("u", 16)
	fun := bytesOf(1, uniq, 0, 0, 0, 3, 0, 0, 0, 1, 119, 1, "m", 97, 3, 98, 255, 255, 255, 255, pid, 119, 4, "free")
	list := List{Int(1), Int(2)}
	return []vector{
		{"small integer", bytesOf(97, 255), Int(255), true},
		{"integer", bytesOf(98, 255, 255, 255, 254), Int(-2), true},
		{"float", bytesOf(70, 63, 248, 0, 0, 0, 0, 0, 0), Float(1.5), true},
		{"negative zero", bytesOf(70, 128, 0, 0, 0, 0, 0, 0, 0), Float(math.Copysign(0, -1)), true},
		{"float text", bytesOf(99, "1.50000000000000000000e+00", make([]byte, 5)), Float(1.5), true},
		{"float text that is full", bytesOf(99, "-1.50000000000000000000000e+000"), Float(-1.5), false},
		{"atom Latin-1", bytesOf(100, 0, 1, 0xE9), Atom("é"), true},
		{"small atom Latin-1", bytesOf(115, 2, "o\xE9"), Atom("oé"), true},
		{"atom UTF-8", bytesOf(118, 0, 2, "é"), Atom("é"), true},
		{"small atom UTF-8", bytesOf(119, 2, "é"), Atom("é"), true},
		{"empty atom", bytesOf(119, 0), Atom(""), true},
		{"long atom", bytesOf(118, 3, 252, strings.Repeat("😀", 255)), Atom(strings.Repeat("😀", 255)), true},
		{"big that is small", bytesOf(110, 1, 0, 7), Int(7), true},
		{"big that is zero", bytesOf(110, 0, 1), Int(0), true},
		{"big with zeros", bytesOf(111, 0, 0, 0, 10, 0, 5, make([]byte, 9)), Int(5), true},
		{"big, largest Int", bytesOf(110, 8, 0, 255, 255, 255, 255, 255, 255, 255, 127), Int(math.MaxInt64), true},
		{"big, smallest Int", bytesOf(110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 128), Int(math.MinInt64), true},
		{"big over Int", bytesOf(110, 8, 0, 0, 0, 0, 0, 0, 0, 0, 128), BigInt{new(big.Int).Lsh(big.NewInt(1), 63)}, true},
		{"big below Int", bytesOf(110, 8, 1, 1, 0, 0, 0, 0, 0, 0, 128), BigInt{new(big.Int).Sub(big.NewInt(math.MinInt64), big.NewInt(1))}, true},
		{"big of many words", bytesOf(111, 0, 0, 0, 17, 1, make([]byte, 16), 1), BigInt{new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 128))}, true},
		{"big with another sign", bytesOf(110, 1, 2, 1), Int(-1), true},
		{"binary", bytesOf(109, 0, 0, 0, 2, "hi"), Binary("hi"), true},
		{"empty binary", bytesOf(109, 0, 0, 0, 0), Binary{}, true},
		{"bitstring with garbage below", bytesOf(77, 0, 0, 0, 2, 3, 1, 0xFF), Bitstring{[]byte{1, 0xE0}, 3}, true},
		{"bitstring of whole bytes", bytesOf(77, 0, 0, 0, 1, 8, 1), Binary{1}, true},
		{"empty bitstring", bytesOf(77, 0, 0, 0, 0, 0), Binary{}, false}, // OTP 25 reads it
		{"string", bytesOf(107, 0, 2, "hi"), String("hi"), true},
		{"empty string", bytesOf(107, 0, 0), List{}, true},
		{"nil", bytesOf(106), List{}, true},
		{"list", bytesOf(108, 0, 0, 0, 2, 97, 1, 97, 2, 106), list, true},
		{"improper list", bytesOf(108, 0, 0, 0, 1, 97, 1, 97, 2), ImproperList{[]Term{Int(1)}, Int(2)}, true},
		{"list without elements is its tail", bytesOf(108, 0, 0, 0, 0, 97, 9), Int(9), true},
		{"list without elements twice", bytesOf(108, 0, 0, 0, 0, 108, 0, 0, 0, 0, 106), List{}, true},
		{"list without elements, then one", bytesOf(108, 0, 0, 0, 0, 108, 0, 0, 0, 1, 97, 1, 106), List{Int(1)}, true},
		{"list without elements, then a string", bytesOf(108, 0, 0, 0, 0, 107, 0, 1, 1), String("\x01"), true},
		{"tail is a list", bytesOf(108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 106), list, true},
		{"tail is a list without elements", bytesOf(108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 0, 108, 0, 0, 0, 1, 97, 2, 106), list, true},
		{"tail is a string", bytesOf(108, 0, 0, 0, 1, 97, 1, 107, 0, 1, 2), list, true},
		{"tail is an empty string", bytesOf(108, 0, 0, 0, 1, 97, 1, 107, 0, 0), List{Int(1)}, true},
		{"tail is an improper list", bytesOf(108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 97, 3), ImproperList{list, Int(3)}, true},
		{"tuple", bytesOf(104, 2, 97, 1, 106), Tuple{Int(1), List{}}, true},
		{"empty tuple", bytesOf(104, 0), Tuple{}, true},
		{"large tuple that is small", bytesOf(105, 0, 0, 0, 1, 97, 1), Tuple{Int(1)}, true},
		{"map", bytesOf(116, 0, 0, 0, 1, 104, 1, 106, 116, 0, 0, 0, 0), Map{{Tuple{List{}}, Map{}}}, true},
		{"map with a key twice", bytesOf(116, 0, 0, 0, 2, 97, 1, 97, 1, 97, 1, 97, 2), Map{{Int(1), Int(1)}, {Int(1), Int(2)}}, false},
		{"map with binary keys", bytesOf(116, 0, 0, 0, 2, 109, 0, 0, 0, 1, "k", 97, 1, 109, 0, 0, 0, 0, 97, 2), Map{{Binary("k"), Int(1)}, {Binary{}, Int(2)}}, true},
		{"pid", pid, Pid{"a@b", 7, 2, 1}, true},
		{"new pid", bytesOf(88, node, 0, 0, 0, 7, 0, 0, 0, 2, 1, 2, 3, 4), Pid{"a@b", 7, 2, 0x01020304}, true},
		{"port", bytesOf(102, node, 0, 0, 0, 7, 1), Port{"a@b", 7, 1}, true},
		{"new port", bytesOf(89, node, 0, 0, 0, 7, 0, 0, 1, 0), Port{"a@b", 7, 256}, true},
		{"V4 port", bytesOf(120, node, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1, 0), Port{"a@b", 1<<56 + 7, 256}, true},
		{"reference", bytesOf(101, node, 0, 0, 0, 7, 1), Ref{"a@b", 1, 1, [5]uint32{7}}, true},
		{"new reference", bytesOf(114, 0, 2, node, 1, 0, 0, 0, 7, 0, 0, 0, 8), Ref{"a@b", 1, 2, [5]uint32{7, 8}}, true},
		{"newer reference", bytesOf(90, 0, 5, node, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5), Ref{"a@b", 256, 5, [5]uint32{1, 2, 3, 4, 5}}, true},
		{"export", bytesOf(113, 119, 5, "lists", 100, 0, 3, "map", 97, 2), Export{"lists", "map", 2}, true},
		{"fun", bytesOf(112, 0, 0, 0, len(fun)+4, fun), &Fun{
			Module: "m", Arity: 1, Uniq: [16]byte([]byte(uniq)), Index: 3, OldIndex: 3, OldUniq: math.MaxUint32, Pid: Pid{"a@b", 7, 2, 1},
			FreeTerms: []Term{Atom("free")},
		}, false}, // a node that has no such module reads it, but not with this uniq
		{"old fun", bytesOf(117, 0, 0, 0, 1, pid, 119, 1, "m", 97, 3, 110, 4, 0, 255, 255, 255, 255, 97, 9), &Fun{
			Module: "m", Index: 3, OldIndex: 3, OldUniq: math.MaxUint32, Pid: Pid{"a@b", 7, 2, 1}, FreeTerms: []Term{Int(9)},
		}, false},
		{"record", bytesOf(67, 0, 0, 0, 1, 1, 119, 1, "m", 119, 1, "r", 119, 1, "f", 104, 1, 97, 1), &Record{
			Module: "m", Name: "r", Exported: true, Fields: []Field{{"f", Tuple{Int(1)}}},
		}, false}, // only OTP 29
		{"record without fields", bytesOf(67, 0, 0, 0, 0, 0, 119, 1, "m", 119, 1, "r"), &Record{Module: "m", Name: "r", Fields: []Field{}}, false},
	}
}

func TestDecodesAllTags(t *testing.T) {
	for _, v := range vectors() {
		t.Run(v.name, func(t *testing.T) {
			got := decodeBoth(t, append([]byte{version}, v.body...))
			require.Equal(t, v.want, got)
			// Inside of other terms, beside others, too.
			nested := bytesOf(version, 104, 3, 97, 1, v.body, 108, 0, 0, 0, 1, v.body, 106)
			require.Equal(t, Tuple{Int(1), v.want, List{v.want}}, decodeBoth(t, nested))
		})
	}
}

// Real nodes agree on what the vectors mean, except for those that they read
// no more or never did.
func TestRealNodesAgreeOnVectors(t *testing.T) {
	for _, otp := range goldenReleases {
		t.Run("otp"+otp, func(t *testing.T) {
			var sent List
			for _, v := range vectors() {
				sent = append(sent, Binary(append([]byte{version}, v.body...)))
			}
			echoed := echo(t, otp, sent)
			for i, v := range vectors() {
				b, ok := echoed[i].(Binary)
				if !v.beam {
					continue
				}
				if assert.True(t, ok, "%s: the node refuses % x", v.name, v.body) {
					got := decodeBoth(t, b)
					assert.True(t, Equal(v.want, got) || v.name == "negative zero", "%s: the node reads %#v", v.name, got)
				}
			}
		})
	}
}

func TestRefusesWhatIsNoTerm(t *testing.T) {
	node := bytesOf(119, 3, "a@b")
	uniq := make([]byte, 16)
	for _, tt := range []struct {
		name string
		b    []byte
		msg  string
	}{
		{"nothing", nil, "no input"},
		{"no version", bytesOf(97, 1), "version byte"},
		{"version only", bytesOf(131), msgShort},
		{"bytes after the term", bytesOf(131, 97, 1, 0), "bytes follow"},
		{"unknown tag", bytesOf(131, 1), "unknown tag 1 at byte 1"},
		{"distribution header", bytesOf(131, 68, 0), "unknown tag 68"},
		{"local", bytesOf(131, 121, 1, 2, 3, 4, 97, 1), "unknown tag 121"},
		{"nested unknown tag", bytesOf(131, 104, 2, 97, 1, 2), "unknown tag 2 at byte 5"},
		{"nested version", bytesOf(131, 104, 1, 131, 97, 1), "unknown tag 131"},
		{"nested compressed", bytesOf(131, 104, 1, 80, 0, 0, 0, 1), "compressed term inside"},
		{"compressed too short", bytesOf(131, 80, 0, 0), msgShort},
		{"compressed garbage", bytesOf(131, 80, 0, 0, 0, 1, "garbage"), "inflate"},
		{"cache reference without a cache", bytesOf(131, 82, 0), "not in the cache"},
		{"infinity", bytesOf(131, 70, 0x7F, 0xF0, 0, 0, 0, 0, 0, 0), "not finite"},
		{"NaN", bytesOf(131, 70, 0x7F, 0xF8, 0, 0, 0, 0, 0, 1), "not finite"},
		{"float text Inf", bytesOf(131, 99, "Inf", make([]byte, 28)), "wrong character"},
		{"float text hex", bytesOf(131, 99, "0x1p4", make([]byte, 26)), "wrong character"},
		{"float text empty", bytesOf(131, 99, make([]byte, 31)), "malformed"},
		{"float text overflow", bytesOf(131, 99, "1.0e400", make([]byte, 24)), "out of range"},
		{"atom of wrong UTF-8", bytesOf(131, 119, 1, 0xE9), "UTF-8"},
		{"atom with a surrogate", bytesOf(131, 118, 0, 3, 0xED, 0xA0, 0x80), "UTF-8"},
		{"atom too long", bytesOf(131, 118, 1, 0, strings.Repeat("x", 256)), "255 characters"},
		{"atom Latin-1 too long", bytesOf(131, 100, 1, 0, strings.Repeat("x", 256)), "255 characters"},
		{"bitstring of 9 bits", bytesOf(131, 77, 0, 0, 0, 1, 9, 1), "number of bits"},
		{"bitstring without bits", bytesOf(131, 77, 0, 0, 0, 1, 0, 1), "number of bits"},
		{"bitstring without bytes", bytesOf(131, 77, 0, 0, 0, 0, 3), "number of bits"},
		{"pid of no atom", bytesOf(131, 88, 97, 1, make([]byte, 12)), "atom is needed"},
		{"reference without words", bytesOf(131, 90, 0, 0, node, 0, 0, 0, 1), "number of words"},
		{"reference of 6 words", bytesOf(131, 90, 0, 6, node, make([]byte, 28)), "number of words"},
		{"export of no atom", bytesOf(131, 113, 97, 1, 119, 1, "f", 97, 1), "atom is needed"},
		{"export with a large arity", bytesOf(131, 113, node, node, 98, 0), "arity"},
		{"fun of another size", bytesOf(131, 112, 0, 0, 0, 99, 0, uniq, 0, 0, 0, 0, 0, 0, 0, 0, node, 97, 0, 97, 0, 103, node, make([]byte, 9)), "not as long"},
		{"fun without a pid", bytesOf(131, 112, 0, 0, 0, 99, 0, uniq, 0, 0, 0, 0, 0, 0, 0, 0, node, 97, 0, 97, 0, 97, 0), "no pid"},
		{"fun with a float index", bytesOf(131, 112, 0, 0, 0, 99, 0, uniq, 0, 0, 0, 0, 0, 0, 0, 0, node, 70, make([]byte, 8)), "wrong index"},
		{"fun with a huge uniq", bytesOf(131, 112, 0, 0, 0, 99, 0, uniq, 0, 0, 0, 0, 0, 0, 0, 0, node, 97, 0, 110, 5, 0, 0, 0, 0, 0, 1), "wrong index"},
		{"record of no atom", bytesOf(131, 67, 0, 0, 0, 1, 0, 97, 1, node, node, 97, 1), "atom is needed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.b, Limits{})
			require.ErrorContains(t, err, tt.msg)
			var syntax *SyntaxError
			var unknown *UnknownTagError
			require.True(t, errors.As(err, &syntax) || errors.As(err, &unknown), "%T", err)
			require.Equal(t, err, NewTape(Limits{}).Decode(tt.b))
		})
	}
}

// Every vector is an error when it is cut off anywhere, also where the rest
// of the input is long enough for a count.
func TestRefusesVectorsThatAreCutOff(t *testing.T) {
	for _, v := range vectors() {
		for n := range v.body {
			b := append([]byte{version}, v.body[:n]...)
			_, err := Decode(b, Limits{})
			require.Error(t, err, "%s: % x", v.name, b)
			require.Error(t, NewTape(Limits{}).Decode(b))
		}
	}
}

func TestUnknownTagLeavesTheDecoderUsable(t *testing.T) {
	d := NewDecoder(Limits{})
	_, err := d.Decode(bytesOf(131, 104, 2, 119, 2, "ok", 200))
	var unknown *UnknownTagError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, UnknownTagError{Offset: 7, Tag: 200}, *unknown)
	got, err := d.Decode(bytesOf(131, 119, 2, "ok"))
	require.NoError(t, err)
	require.Equal(t, Atom("ok"), got)
}

func TestAtomCache(t *testing.T) {
	refs := []Atom{"ok", "é", Atom(strings.Repeat("😀", 255)), "not UTF-8 \xff", Atom(strings.Repeat("x", 256))}
	body := bytesOf(104, 4, 82, 0, 82, 1, 82, 2, 119, 5, "other")
	want := Tuple{refs[0], refs[1], refs[2], Atom("other")}

	d, tape := NewDecoder(Limits{}), NewTape(Limits{})
	d.SetCache(refs)
	tape.SetCache(refs)
	got, err := d.DecodeBody(body)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, tape.DecodeBody(body))
	c := tape.Cursor()
	in, _ := c.EnterTuple()
	require.True(t, in.IsAtom("ok"))
	require.False(t, in.IsAtom("no"))
	require.Equal(t, want, tapeTerm(tape))

	got, rest, err := d.DecodeBodyPrefix(append(body, 1, 2))
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []byte{1, 2}, rest)
	rest, err = tape.DecodeBodyPrefix(append(body, 1, 2))
	require.NoError(t, err)
	require.Equal(t, []byte{1, 2}, rest)

	// Atoms of the cache stand wherever an atom does.
	pid := bytesOf(88, 82, 1, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 1)
	got, err = d.DecodeBody(pid)
	require.NoError(t, err)
	require.Equal(t, Pid{"é", 7, 2, 1}, got)
	fun := bytesOf(117, 0, 0, 0, 1, pid, 82, 0, 97, 3, 97, 4, 82, 1)
	got, err = d.DecodeBody(fun)
	require.NoError(t, err)
	require.NoError(t, tape.DecodeBody(fun))
	require.Equal(t, got, tapeTerm(tape))

	for _, index := range []int{3, 4, 5, 255} {
		_, err = d.DecodeBody(bytesOf(82, index))
		require.ErrorContains(t, err, "not in the cache")
		require.Equal(t, err, tape.DecodeBody(bytesOf(82, index)))
	}
	d.SetCache(nil)
	_, err = d.DecodeBody(body)
	require.ErrorContains(t, err, "not in the cache")
}

// tapeTerm is the term on a tape.
func tapeTerm(tape *Tape) Term {
	c := tape.Cursor()
	return c.Term()
}
