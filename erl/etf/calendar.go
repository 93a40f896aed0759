package etf

import (
	"fmt"
	"strconv"
	"strings"
)

// This file knows the structs of Elixir's calendar in both directions.

const calendarISO = Atom("Elixir.Calendar.ISO")

// fieldsOf returns the values of the fields of a struct, if it has exactly
// the named ones.
func fieldsOf(fields Map, names ...Atom) ([]Term, bool) {
	if len(fields) != len(names) {
		return nil, false
	}
	values := make([]Term, len(names))
	for _, kv := range fields {
		for i, n := range names {
			if kv.Key == n {
				values[i] = kv.Value
			}
		}
	}
	for _, v := range values {
		if v == nil {
			return nil, false
		}
	}
	return values, true
}

// boundedInts returns the values as integers, if they are within 0 and max.
func boundedInts(values []Term, max ...Int) ([]int, bool) {
	out := make([]int, len(max))
	for i, m := range max {
		n, ok := values[i].(Int)
		if !ok || n < 0 || n > m {
			return nil, false
		}
		out[i] = int(n)
	}
	return out, true
}

// dateText returns 2024-01-31. Only years of four digits have that form.
func dateText(calendar, year, month, day Term) (string, bool) {
	y, ok := year.(Int)
	md, ok2 := boundedInts([]Term{month, day}, 12, 31)
	if calendar != calendarISO || !ok || !ok2 || y < -9999 || y > 9999 || !validDate(int(y), md[0], md[1]) {
		return "", false
	}
	sign := ""
	if y < 0 {
		sign, y = "-", -y
	}
	return fmt.Sprintf("%s%04d-%02d-%02d", sign, y, md[0], md[1]), true
}

func validDate(year, month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	days := []int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day <= days
}

// timeText returns 23:59:59.999, with as many decimals as microsecond, a pair
// of microseconds and precision, asks for.
func timeText(hour, minute, second, microsecond Term) (string, bool) {
	us, ok := microsecond.(Tuple)
	if !ok || len(us) != 2 {
		return "", false
	}
	v, ok := boundedInts([]Term{hour, minute, second, us[0], us[1]}, 23, 59, 59, 999999, 6)
	if !ok {
		return "", false
	}
	s := fmt.Sprintf("%02d:%02d:%02d", v[0], v[1], v[2])
	if v[4] == 0 {
		return s, v[3] == 0
	}
	digits := fmt.Sprintf("%06d", v[3])
	return s + "." + digits[:v[4]], strings.Trim(digits[v[4]:], "0") == ""
}

// calendarText returns how inspect/2 writes a well-formed date or time.
func calendarText(s elixirStruct) (string, bool) {
	switch s.name {
	case "Elixir.Date":
		if v, ok := fieldsOf(s.fields, "calendar", "year", "month", "day"); ok {
			d, ok := dateText(v[0], v[1], v[2], v[3])
			return "~D[" + d + "]", ok
		}
	case "Elixir.Time":
		if v, ok := fieldsOf(s.fields, "calendar", "hour", "minute", "second", "microsecond"); ok && v[0] == calendarISO {
			t, ok := timeText(v[1], v[2], v[3], v[4])
			return "~T[" + t + "]", ok
		}
	case "Elixir.NaiveDateTime":
		if v, ok := fieldsOf(s.fields, "calendar", "year", "month", "day", "hour", "minute", "second", "microsecond"); ok {
			d, ok := dateText(v[0], v[1], v[2], v[3])
			t, ok2 := timeText(v[4], v[5], v[6], v[7])
			return "~N[" + d + " " + t + "]", ok && ok2
		}
	case "Elixir.DateTime":
		return dateTimeText(s.fields)
	}
	return "", false
}

func dateTimeText(fields Map) (string, bool) {
	v, ok := fieldsOf(fields, "calendar", "year", "month", "day", "hour", "minute", "second", "microsecond",
		"time_zone", "zone_abbr", "utc_offset", "std_offset")
	if !ok {
		return "", false
	}
	d, ok := dateText(v[0], v[1], v[2], v[3])
	t, ok2 := timeText(v[4], v[5], v[6], v[7])
	zone, ok3 := zoneName(v[8])
	abbr, ok4 := zoneName(v[9])
	utc, ok5 := v[10].(Int)
	std, ok6 := v[11].(Int)
	const day = 24 * 3600
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || utc < -day || utc > day || std < -day || std > day {
		return "", false
	}
	if zone == "Etc/UTC" && utc == 0 && std == 0 {
		return "~U[" + d + " " + t + "Z]", abbr == "UTC"
	}
	offset := int(utc + std)
	sign := "+"
	if offset < 0 {
		sign, offset = "-", -offset
	}
	o := fmt.Sprintf("%s%02d:%02d", sign, offset/3600, offset/60%60)
	return "#DateTime<" + d + " " + t + o + " " + abbr + " " + zone + ">", true
}

// zoneName returns the name of a time zone, if it is harmless to print as it
// stands.
func zoneName(t Term) (string, bool) {
	b, ok := t.(Binary)
	if !ok || len(b) == 0 || len(b) > 64 {
		return "", false
	}
	for _, c := range b {
		if !asciiWord(c) && c != '/' && c != '+' && c != '-' {
			return "", false
		}
	}
	return string(b), true
}

// calendarTerm reads the text of ~D, ~T, ~N or ~U, as strictly as inspect/2
// writes it; "T" may stand between date and time.
func calendarTerm(kind byte, s string) (Term, bool) {
	var date, clock string
	switch kind {
	case 'D':
		date = s
	case 'T':
		clock = s
	default:
		i := strings.IndexAny(s, " T")
		if i < 0 {
			return nil, false
		}
		date, clock = s[:i], s[i+1:]
	}
	m := Map{{Atom("__struct__"), nil}, {Atom("calendar"), calendarISO}}
	var ok bool
	if date != "" {
		if m, ok = readDate(m, date); !ok {
			return nil, false
		}
	}
	if kind == 'U' {
		if clock, ok = strings.CutSuffix(clock, "Z"); !ok {
			return nil, false
		}
	}
	if kind != 'D' {
		if m, ok = readTime(m, clock); !ok {
			return nil, false
		}
	}
	switch kind {
	case 'D':
		m[0].Value = Atom("Elixir.Date")
	case 'T':
		m[0].Value = Atom("Elixir.Time")
	case 'N':
		m[0].Value = Atom("Elixir.NaiveDateTime")
	default:
		m[0].Value = Atom("Elixir.DateTime")
		m = append(m, Pair{Atom("time_zone"), Binary("Etc/UTC")}, Pair{Atom("zone_abbr"), Binary("UTC")},
			Pair{Atom("utc_offset"), Int(0)}, Pair{Atom("std_offset"), Int(0)})
	}
	return m, date != "" || kind == 'T'
}

func readDate(m Map, s string) (Map, bool) {
	rest, negative := strings.CutPrefix(s, "-")
	v, ok := readInts(rest, "0000-00-00")
	if !ok || !validDate(v[0], v[1], v[2]) {
		return nil, false
	}
	if negative {
		v[0] = -v[0]
	}
	return append(m, Pair{Atom("year"), Int(v[0])}, Pair{Atom("month"), Int(v[1])}, Pair{Atom("day"), Int(v[2])}), true
}

func readTime(m Map, s string) (Map, bool) {
	s, fraction, point := strings.Cut(s, ".")
	v, ok := readInts(s, "00:00:00")
	if !ok || v[0] > 23 || v[1] > 59 || v[2] > 59 || point && (fraction == "" || len(fraction) > 6) {
		return nil, false
	}
	us, ok := readInts(fraction+"000000"[len(fraction):], "000000")
	if !ok {
		return nil, false
	}
	return append(m, Pair{Atom("hour"), Int(v[0])}, Pair{Atom("minute"), Int(v[1])}, Pair{Atom("second"), Int(v[2])},
		Pair{Atom("microsecond"), Tuple{Int(us[0]), Int(len(fraction))}}), true
}

// readInts reads the numbers of s, which must look like pattern with other
// digits.
func readInts(s, pattern string) ([]int, bool) {
	if len(s) != len(pattern) {
		return nil, false
	}
	var out []int
	start := 0
	for i := range len(s) {
		if pattern[i] == '0' {
			if !isDigit(s[i]) {
				return nil, false
			}
			if i+1 < len(s) && pattern[i+1] == '0' {
				continue
			}
			n, _ := strconv.Atoi(s[start : i+1])
			out = append(out, n)
		} else if s[i] != pattern[i] {
			return nil, false
		} else {
			start = i + 1
		}
	}
	return out, true
}
