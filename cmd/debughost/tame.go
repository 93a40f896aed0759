package main

import (
	"strings"
	"unicode/utf8"
)

// tame makes what a node prints bit by bit harmless on a terminal: it lets
// colours through, if they are wanted, and tabs and line ends; all else that a
// terminal would obey is shown as an escape. It holds back a sequence that is not
// complete yet.
type tame struct{ rest string }

// maxSequence is how long a colour may be.
const maxSequence = 32

func (t *tame) text(s string, colors bool) string {
	s = t.rest + s
	t.rest = ""
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '\x1b')
		if i < 0 {
			i = len(s)
		}
		b.WriteString(tamed(s[:i]))
		if s = s[i:]; s == "" {
			break
		}
		n, complete := colour(s)
		switch {
		case !complete:
			t.rest = s
			return b.String()
		case n == 0:
			b.WriteString(`\x1B`)
			s = s[1:]
		default:
			if colors {
				b.WriteString(s[:n])
			}
			s = s[n:]
		}
	}
	return b.String()
}

// tamed is text without escapes. A carriage return before a line end is part of
// that.
func tamed(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	parts := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\t")
	for i := range parts {
		parts[i] = saneLines(parts[i])
	}
	return strings.Join(parts, "\t")
}

// colour returns the length of the colour sequence (SGR) that s begins with, 0
// where it begins with another; complete is false where more has to be seen.
func colour(s string) (n int, complete bool) {
	for i := 1; i < min(len(s), maxSequence); i++ {
		switch c := s[i]; {
		case i == 1 && c == '[':
		case i > 1 && (c >= '0' && c <= '9' || c == ';'):
		case i > 1 && c == 'm':
			return i + 1, true
		default:
			return 0, true
		}
	}
	return 0, len(s) >= maxSequence
}
