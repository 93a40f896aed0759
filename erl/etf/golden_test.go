package etf

import (
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	goldenReleases = []string{"25", "27", "29"}
	goldenScript   = filepath.Join("testdata", "golden.escript")
)

// goldenTerms is what golden.escript writes that is the same in every run.
func goldenTerms() map[string]Term {
	big1 := new(big.Int).Lsh(big.NewInt(1), 2040)
	shifted := func(n uint) BigInt { return BigInt{new(big.Int).Lsh(big.NewInt(1), n)} }
	sub := func(x, y int64) BigInt { return BigInt{new(big.Int).Sub(big.NewInt(x), big.NewInt(y))} }
	floats := List{Float(0), Float(1.5), Float(-1.5), Float(3.141592653589793), Float(1e300), Float(-1e-300), Float(5e-324), Float(math.MaxFloat64)}
	atoms := List{
		Atom("a"), Atom(""), Atom("hello world"), Atom("Elixir.Shop"), Atom("åäö"), Atom("Ϩ😀"),
		Atom(strings.Repeat("x", 255)), Atom(strings.Repeat("é", 255)), Atom(strings.Repeat("😀", 255)),
	}
	return map[string]Term{
		"atoms":        atoms,
		"atoms_utf8":   atoms,
		"atoms_latin1": List{atoms[0], atoms[1], atoms[2], atoms[3], atoms[4], atoms[6], atoms[7]},
		"integers": List{
			Int(0), Int(1), Int(255), Int(256), Int(-1), Int(-255), Int(2147483647), Int(-2147483648), Int(2147483648), Int(-2147483649),
			Int(math.MaxInt64), Int(math.MinInt64), shifted(63), sub(math.MinInt64, 1), shifted(64), shifted(70),
			BigInt{new(big.Int).Sub(big1, big.NewInt(1))}, BigInt{big1}, BigInt{new(big.Int).Neg(big1)},
			BigInt{new(big.Int).Add(shifted(20000).Int, big.NewInt(12345))},
		},
		"floats":      floats,
		"floats_text": floats,
		"binaries":    List{Binary{}, Binary("hello"), Binary{0, 255}, Binary(strings.Repeat("0123456789", 100))},
		"bitstrings":  List{Bitstring{[]byte{0x80}, 1}, Bitstring{[]byte{0xA0}, 3}, Bitstring{[]byte{255, 254}, 7}, Bitstring{[]byte("abc\x40"), 2}},
		"strings":     List{List{}, String("hello"), String("\x00\xff"), String(strings.Repeat("s", 1000))},
		"lists":       List{List{}, List{Int(1), Int(2), Int(300)}, List{Atom("a"), List{Atom("b"), List{Atom("c"), List{}}}}, List{List{}, List{List{}}}},
		"improper": List{
			ImproperList{[]Term{Atom("a")}, Atom("b")}, ImproperList{[]Term{Int(1), Int(2), Int(3)}, Int(4)},
			ImproperList{[]Term{Atom("a")}, Binary("tail")}, ImproperList{[]Term{ImproperList{[]Term{Atom("x")}, Atom("y")}}, Tuple{Atom("z")}},
		},
		"tuples": List{Tuple{}, Tuple{Atom("a")}, Tuple{Int(1), Tuple{Int(2), Tuple{Int(3)}}}, Tuple(ints(255)), Tuple(ints(256))},
		"maps": List{Map{}, Map{{Atom("a"), Int(1)}}, Map{
			{Binary("key"), String("value")}, {Int(1), Int(2)}, {Float(1), Int(3)}, {Tuple{Atom("t"), Int(1)}, List{}},
			{Map{{Atom("k"), Atom("v")}}, Map{}}, {List{Atom("l")}, shifted(70)},
		}},
		"large_map":   squares(100),
		"exports":     List{Export{"lists", "map", 2}, Export{"erlang", "self", 0}},
		"compressed":  List(ints(2000)),
		"compressed9": repeated(Tuple{Atom("ok"), Binary("again")}, 3000),
		"records": List{&Record{Module: "shop", Name: "order", Exported: true, Fields: []Field{
			{"id", Int(1)}, {"lines", List{Binary("a")}},
			{"parent", &Record{Module: "shop", Name: "none", Fields: []Field{}}},
		}}},
	}
}

func ints(n int) []Term {
	elems := make([]Term, n)
	for i := range elems {
		elems[i] = Int(i + 1)
	}
	return elems
}

func squares(n int) (m Map) {
	for i := range n {
		m = append(m, Pair{Int(i + 1), Int((i + 1) * (i + 1))})
	}
	return m
}

func repeated(t Term, n int) (l List) {
	for range n {
		l = append(l, t)
	}
	return l
}

func readGolden(t *testing.T, otp, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", "otp"+otp, name+".etf"))
	require.NoError(t, err)
	return b
}

func TestGoldenFilesOfRealNodes(t *testing.T) {
	for _, otp := range goldenReleases {
		for name, want := range goldenTerms() {
			if name == "records" && otp != "29" {
				continue
			}
			t.Run("otp"+otp+"/"+name, func(t *testing.T) {
				got := decodeBoth(t, readGolden(t, otp, name))
				assert.True(t, Equal(want, got), "want %#v\ngot  %#v", want, got)
			})
		}
	}
}

// The values that are new in every run come with what their node says of them.
func TestGoldenIdentifiers(t *testing.T) {
	for _, otp := range goldenReleases {
		t.Run("otp"+otp, func(t *testing.T) {
			creation := uint32(decodeBoth(t, readGolden(t, otp, "creation")).(Int))
			for _, pair := range decodeBoth(t, readGolden(t, otp, "pids")).(List) {
				pid := pair.(Tuple)[0].(Pid)
				assert.Equal(t, Atom("golden@localhost"), pid.Node)
				assert.Equal(t, creation, pid.Creation)
				assert.Equal(t, pair.(Tuple)[1], String(fmt.Sprintf("<0.%d.%d>", pid.ID, pid.Serial)))
			}
			for _, pair := range decodeBoth(t, readGolden(t, otp, "ports")).(List) {
				port := pair.(Tuple)[0].(Port)
				assert.Equal(t, creation, port.Creation)
				assert.Equal(t, pair.(Tuple)[1], String(fmt.Sprintf("#Port<0.%d>", port.ID)))
			}
			for _, pair := range decodeBoth(t, readGolden(t, otp, "refs")).(List) {
				ref := pair.(Tuple)[0].(Ref)
				assert.Equal(t, creation, ref.Creation)
				text := "#Ref<0"
				for i := int(ref.Len) - 1; i >= 0; i-- {
					text += fmt.Sprintf(".%d", ref.Words[i])
				}
				assert.Equal(t, pair.(Tuple)[1], String(text+">"))
			}
		})
	}
}

func TestGoldenFuns(t *testing.T) {
	for _, otp := range goldenReleases {
		t.Run("otp"+otp, func(t *testing.T) {
			funs := decodeBoth(t, readGolden(t, otp, "funs")).(List)
			require.Len(t, funs, 3)
			for _, pair := range funs {
				fun, info := pair.(Tuple)[0].(*Fun), pair.(Tuple)[1].(Map)
				assert.Equal(t, info.get("module"), fun.Module)
				assert.Equal(t, info.get("arity"), Int(fun.Arity))
				assert.Equal(t, info.get("new_index"), Int(fun.Index))
				assert.Equal(t, info.get("index"), Int(fun.OldIndex))
				assert.Equal(t, info.get("uniq"), Int(fun.OldUniq))
				assert.Equal(t, info.get("new_uniq"), Binary(fun.Uniq[:]))
				assert.True(t, Equal(info.get("env"), List(fun.FreeTerms)))
			}
		})
	}
}

func (m Map) get(key Atom) Term {
	for _, p := range m {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// Each release reads what is written here of the terms of all of them, and
// finds them the same.
func TestRealNodesReadGoldenTermsBack(t *testing.T) {
	for _, otp := range goldenReleases {
		t.Run("otp"+otp, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", "otp*", "*.etf"))
			require.NoError(t, err)
			require.Greater(t, len(files), 60)
			var pairs List
			for _, file := range files {
				if strings.HasSuffix(file, "records.etf") && otp != "29" {
					continue
				}
				golden, err := os.ReadFile(file)
				require.NoError(t, err)
				again, err := Encode(decodeBoth(t, golden))
				require.NoError(t, err)
				pairs = append(pairs, Tuple{Binary(golden), Binary(again)})
			}
			b, err := Encode(pairs)
			require.NoError(t, err)
			in := filepath.Join(t.TempDir(), "pairs")
			require.NoError(t, os.WriteFile(in, b, 0o600))
			run(t, otp, "escript", goldenScript, "same", in)
		})
	}
}

// What OTP 26 and later write, this package writes byte for byte.
func TestEncodesAsOTPDoes(t *testing.T) {
	for name := range goldenTerms() {
		switch name {
		case "atoms_latin1", "floats_text", "compressed", "compressed9":
			continue // older or other encodings of the same terms
		}
		golden := readGolden(t, "29", name)
		b, err := Encode(decodeBoth(t, golden))
		require.NoError(t, err)
		assert.Equal(t, golden, b, name)
	}
	for _, name := range []string{"pids", "ports", "refs", "funs"} {
		golden := readGolden(t, "29", name)
		b, err := Encode(decodeBoth(t, golden))
		require.NoError(t, err)
		assert.Equal(t, golden, b, name)
	}
}
