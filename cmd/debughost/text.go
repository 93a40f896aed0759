package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// sane makes text of a target harmless on a terminal: control characters, and
// those that turn the direction of writing, are shown as escapes.
func sane(s string) string { return sanitise(s, false) }

// saneLines is sane for text of several lines, which may have tabs.
func saneLines(s string) string { return sanitise(s, true) }

func sanitise(s string, lines bool) string {
	bad := func(r rune) bool {
		return r == utf8.RuneError || r < ' ' && !(lines && (r == '\n' || r == '\t')) || !unicode.IsGraphic(r) && r >= 0x7f && r != '\n'
	}
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case !bad(r):
			b.WriteRune(r)
		case r == utf8.RuneError && s[i] != 0xEF: // not U+FFFD itself
			fmt.Fprintf(&b, `\x%02X`, s[i])
		case r == utf8.RuneError:
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02X`, r)
		default:
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

// shellWord quotes s so that a person can copy it into a shell, whatever a node
// is called.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@._-", r)
	}
	s = sane(s)
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// short drops the prefix that every Elixir module has; every command takes
// names without it.
func short(s string) string { return strings.TrimPrefix(s, "Elixir.") }

// size prints bytes with three digits, in powers of 1000.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n), []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	unit := ""
	for _, unit = range units {
		v /= 1000
		if v < 999.5 {
			break
		}
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// plural is 1 row, 2 rows.
func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return decimal(n) + " " + what + "s"
}

// age prints a time span with two units at most.
func age(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// columns is how wide s is on a terminal: Chinese, Japanese and Korean
// characters and emoji take two columns, combining marks none.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r):
		return 0
	case r >= 0x1100 && r <= 0x115F, r >= 0x2E80 && r <= 0xA4CF, r >= 0xAC00 && r <= 0xD7A3,
		r >= 0xF900 && r <= 0xFAFF, r >= 0xFE30 && r <= 0xFE6F, r >= 0xFF00 && r <= 0xFF60,
		r >= 0xFFE0 && r <= 0xFFE6, r >= 0x1F300 && r <= 0x1FAFF, r >= 0x20000 && r <= 0x3FFFD:
		return 2
	}
	return 1
}

// cutEnd shortens s to a width.
func cutEnd(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	w := 0
	for i, r := range s {
		if w += runeColumns(r); w > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// cut shortens s to a width by taking from its middle: both the module at the
// start and the function at the end tell something.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	runes := []rune(s)
	left := (width - 1) / 2
	right := width - 1 - left
	i, j := 0, len(runes)
	for w := 0; i < len(runes) && w+runeColumns(runes[i]) <= left; i++ {
		w += runeColumns(runes[i])
	}
	for w := 0; j > i && w+runeColumns(runes[j-1]) <= right; j-- {
		w += runeColumns(runes[j-1])
	}
	return string(runes[:i]) + "…" + string(runes[j:])
}
