package epmd

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzAnswers reads any bytes as each of the three answers: an error or a sane
// value, never a panic.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{'w', 0, 0x12, 0x67, 72, 1, 0, 7, 0, 6, 0, 4, 's', 'h', 'o', 'p', 0, 2, 'x', 'y'})
	f.Add([]byte{'w', 1})
	f.Add([]byte{'v', 0, 1, 2, 3, 4})
	f.Add([]byte{'y', 0, 0, 3})
	f.Add([]byte("\x00\x00\x11\x11name shop at port 4711\nname bank at port 4712\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := readNode(bufio.NewReader(bytes.NewReader(b))); err == nil {
			if n.Port < 1 || n.Port > 65535 || len(n.Name) > maxName || len(n.Extra) > maxName {
				t.Errorf("readNode(%q) = %+v", b, n)
			}
		}
		if c, err := readCreation(bufio.NewReader(bytes.NewReader(b))); err == nil && c == 0 {
			t.Errorf("readCreation(%q) = 0", b)
		}
		names, err := parseNames(b)
		if err != nil && names != nil {
			t.Errorf("parseNames(%q) = %v and %v", b, names, err)
		}
		for _, n := range names {
			if n.Name == "" || n.Port < 1 || n.Port > 65535 {
				t.Errorf("parseNames(%q) has %+v", b, n)
			}
		}
	})
}
