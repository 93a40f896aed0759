package target

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/debughost/debughost/erl/etf"
)

// JSON writes a term for programs, with what JSON has for it:
//
//	integer, float            number
//	true, false, nil          true, false, null
//	another atom              string
//	binary of UTF-8           string
//	string of printable text  string
//	list, tuple               array
//	map                       object; a key that is no atom or binary as it prints
//
// All else (pids, references, funs, bit strings, improper lists, records) is a
// string with what Format makes of it under o, and so is what lies deeper than
// o.MaxDepth. It tells an atom from a binary no more, nor a tuple from a list:
// the printed text does.
func JSON(t etf.Term, o etf.PrintOptions) string {
	return string((&jsonPrinter{o}).append(nil, t, o.MaxDepth))
}

type jsonPrinter struct{ o etf.PrintOptions }

func (p *jsonPrinter) append(dst []byte, t etf.Term, depth int) []byte {
	switch t := t.(type) {
	case etf.Int:
		return strconv.AppendInt(dst, int64(t), 10)
	case etf.BigInt:
		return t.Append(dst, 10)
	case etf.Float:
		return strconv.AppendFloat(dst, float64(t), 'g', -1, 64)
	case etf.Atom:
		switch t {
		case "true", "false":
			return append(dst, t...)
		case "nil":
			return append(dst, "null"...)
		}
		return jsonString(dst, string(t))
	case etf.Binary:
		if utf8.Valid(t) {
			return jsonString(dst, string(t))
		}
	case etf.String:
		if s := latin1(t); s != "" {
			return jsonString(dst, s)
		}
		elements, _ := etf.Elements(t)
		return p.array(dst, elements, depth)
	case etf.List:
		if depth > 0 {
			return p.array(dst, t, depth)
		}
	case etf.Tuple:
		if depth > 0 {
			return p.array(dst, t, depth)
		}
	case etf.Map:
		if depth > 0 {
			return p.object(dst, t, depth)
		}
	}
	return p.text(dst, t)
}

func (p *jsonPrinter) array(dst []byte, elements []etf.Term, depth int) []byte {
	dst = append(dst, '[')
	for i, e := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p.append(dst, e, depth-1)
	}
	return append(dst, ']')
}

// object writes keys that would be the same as they print.
func (p *jsonPrinter) object(dst []byte, m etf.Map, depth int) []byte {
	used := map[string]bool{}
	dst = append(dst, '{')
	for i, kv := range m {
		if i > 0 {
			dst = append(dst, ',')
		}
		key := p.key(kv.Key)
		if used[key] {
			key = etf.Format(kv.Key, p.o)
		}
		used[key] = true
		dst = append(jsonString(dst, key), ':')
		dst = p.append(dst, kv.Value, depth-1)
	}
	return append(dst, '}')
}

func (p *jsonPrinter) key(t etf.Term) string {
	switch t := t.(type) {
	case etf.Atom:
		return string(t)
	case etf.Binary:
		if utf8.Valid(t) {
			return string(t)
		}
	}
	return etf.Format(t, p.o)
}

func (p *jsonPrinter) text(dst []byte, t etf.Term) []byte {
	return jsonString(dst, etf.Format(t, p.o))
}

// latin1 is a list of bytes that reads as text; empty where it does not.
func latin1(s etf.String) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= ' ' && c < 0x7f, c >= 0xa0, c == '\n', c == '\t', c == '\r':
			b.WriteRune(rune(c))
		default:
			return ""
		}
	}
	return b.String()
}

func jsonString(dst []byte, s string) []byte {
	b := bytes.NewBuffer(dst)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false) // <0.1.2> must stay readable
	_ = enc.Encode(s)        // cannot fail: it is a string
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
