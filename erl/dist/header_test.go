package dist

import (
	"strings"
	"testing"

	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHeaderOfTheManual reads the example in "External Term Format", with two
// atoms that an earlier header has set.
func TestHeaderOfTheManual(t *testing.T) {
	var c atomCache
	// Two new entries, 10 of segment 4 and 5 of segment 0: an even count, so
	// the flags of the header itself are the lower half of the byte behind.
	refs, rest, err := c.parse([]byte{2, 0x8c, 0, 10, 3, 'a', '@', 'h', 5, 3, 'b', '@', 'h', 77}, nil)
	require.NoError(t, err)
	assert.Equal(t, []etf.Atom{"a@h", "b@h"}, refs)
	assert.Equal(t, []byte{77}, rest)

	example := []byte{
		5, 4, 137, 9, // three bytes of flags: 4, 0, 9, 8, 9, and 0 of the header
		10, 5, // cached ones
		236, 3, 114, 101, 103, // reg
		9, 4, 99, 97, 108, 108, // call
		238, 13, 115, 101, 116, 95, 103, 101, 116, 95, 115, 116, 97, 116, 101,
		104, 4,
	}
	refs, rest, err = c.parse(example, refs[:0])
	require.NoError(t, err)
	assert.Equal(t, []etf.Atom{"a@h", "b@h", "reg", "call", "set_get_state"}, refs)
	assert.Equal(t, []byte{104, 4}, rest)
	assert.Equal(t, etf.Atom("reg"), c.entries[1<<8|236].atom)
}

func TestHeaderForms(t *testing.T) {
	long := strings.Repeat("ü", 255) // 510 bytes
	tests := []struct {
		name string
		in   []byte
		want []etf.Atom
		err  string
	}{
		{"no atoms", []byte{0, 1}, nil, ""},
		{"one", []byte{1, 0x08, 7, 1, 'x', 1}, []etf.Atom{"x"}, ""},
		{"long atoms", append(append([]byte{1, 0x18, 7, 510 >> 8, 510 & 255}, long...), 1), []etf.Atom{etf.Atom(long)}, ""},
		{"empty atom", []byte{1, 0x08, 7, 0, 1}, []etf.Atom{""}, ""},
		{"nothing", nil, nil, "ends early"},
		{"no flags", []byte{1}, nil, "ends early"},
		{"no index", []byte{1, 8}, nil, "ends early"},
		{"no length", []byte{1, 8, 7}, nil, "ends early"},
		{"half a long length", []byte{1, 0x18, 7, 1}, nil, "ends early"},
		{"no text", []byte{1, 8, 7, 2, 'x'}, nil, "ends early"},
		{"never set", []byte{1, 0, 7}, nil, "was never set"},
		{"not UTF-8", []byte{1, 8, 7, 1, 0xff}, nil, "bad atom"},
		{"256 characters", append([]byte{1, 0x18, 7, 1, 0}, strings.Repeat("x", 256)...), nil, "bad atom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c atomCache
			refs, rest, err := c.parse(tt.in, nil)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, refs)
			assert.Equal(t, []byte{1}, rest)
		})
	}
}

func TestCacheEntryIsReplaced(t *testing.T) {
	var c atomCache
	for _, a := range []string{"x", "y", "y"} {
		refs, _, err := c.parse([]byte{1, 0x0b, 7, 1, a[0]}, nil)
		require.NoError(t, err)
		assert.Equal(t, []etf.Atom{etf.Atom(a)}, refs)
	}
	refs, _, err := c.parse([]byte{1, 3, 7}, nil)
	require.NoError(t, err)
	assert.Equal(t, []etf.Atom{"y"}, refs)
}
