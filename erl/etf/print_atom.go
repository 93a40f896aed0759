package etf

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FormatPid returns p as its own node prints it: "<0.123.0>".
func FormatPid(p Pid) string { return Format(p, PrintOptions{Node: p.Node}) }

// FormatMFA returns mod:fun/arity or Mod.fun/arity, quoted where needed.
func FormatMFA(module, function Atom, arity int, s Syntax) string {
	p := newPrinter(nil, PrintOptions{Syntax: s})
	if s == Elixir {
		p.elixirAtom(module)
		p.put(".")
		p.elixirCall(function)
	} else {
		p.erlangAtom(module)
		p.put(":")
		p.erlangAtom(function)
	}
	p.put("/" + strconv.Itoa(arity))
	return string(p.dst)
}

// text writes s as it stands, character by character.
func (p *printer) text(s string) {
	for len(s) > 0 && !p.full {
		_, n := utf8.DecodeRuneInString(s)
		p.put(s[:n])
		s = s[n:]
	}
}

func (p *printer) quoted(s string, quote byte) {
	p.putByte(quote)
	p.utf8([]byte(s), quote)
	p.putByte(quote)
}

func (p *printer) erlangAtom(a Atom) {
	if erlangBare(string(a)) {
		p.text(string(a))
		return
	}
	p.quoted(string(a), '\'')
}

// erlangReserved are the reserved words of OTP 25 to 29.
var erlangReserved = map[string]bool{
	"after": true, "and": true, "andalso": true, "band": true, "begin": true, "bnot": true,
	"bor": true, "bsl": true, "bsr": true, "bxor": true, "case": true, "catch": true,
	"cond": true, "div": true, "else": true, "end": true, "fun": true, "if": true,
	"let": true, "maybe": true, "not": true, "of": true, "or": true, "orelse": true,
	"receive": true, "rem": true, "try": true, "when": true, "xor": true,
}

// erlangBare says whether an atom needs no quotes: a Latin-1 small letter, then
// Latin-1 letters, digits, "_" and "@", and no reserved word.
func erlangBare(s string) bool {
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'ß' && r <= 'ÿ' && r != '÷':
		case i > 0 && (r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '@' || r >= 'À' && r <= 'Þ' && r != '×'):
		default:
			return false
		}
	}
	return s != "" && !erlangReserved[s]
}

// atomClass is Macro.inspect_atom's idea of an atom.
type atomClass uint8

const (
	atomOther       atomClass = iota // always quoted
	atomIdentifier                   // foo, foo?
	atomAlias                        // Elixir.Foo.Bar
	atomOperator                     // + and others that can be called
	atomQuotedOp                     // operators that are quoted as literals
	atomNotCallable                  // %{}, Foo, foo@bar: bare as literals, quoted in calls
)

var elixirOperators = func() map[string]atomClass {
	m := map[string]atomClass{}
	for _, op := range strings.Fields(`! ^ not + - & @ <- \\ when | = || ||| or && &&& and == != =~ ===
		!== < <= >= > |> <<< >>> <~ ~> <<~ ~>> <~> in ++ -- <> +++ --- * / **`) {
		m[op] = atomOperator
	}
	for _, op := range strings.Fields(`:: ^^^ ~~~ <|>`) {
		m[op] = atomQuotedOp
	}
	for _, op := range strings.Fields(`% %{} {} <<>> ... .. . ..// ->`) {
		m[op] = atomNotCallable
	}
	return m
}()

func classify(s string) atomClass {
	if c, ok := elixirOperators[s]; ok {
		return c
	}
	if rest, ok := strings.CutPrefix(s, "Elixir"); ok && aliasTail(rest) {
		return atomAlias
	}
	return identifierClass(s)
}

// aliasTail says whether s is any number of ".Segment".
func aliasTail(s string) bool {
	for s != "" {
		if s[0] != '.' || len(s) < 2 || s[1] < 'A' || s[1] > 'Z' {
			return false
		}
		n := 2
		for n < len(s) && asciiWord(s[n]) {
			n++
		}
		s = s[n:]
	}
	return true
}

func asciiWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// identifierClass recognises the identifiers of Elixir's tokenizer, as far as
// all its versions agree about them: letters of one script, which is Latin,
// Greek or Cyrillic.
func identifierClass(s string) atomClass {
	if strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") {
		s = s[:len(s)-1]
	}
	if s == "" {
		return atomOther
	}
	class := atomIdentifier
	scripts := script(0)
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z':
			scripts |= latin
		case r >= 'A' && r <= 'Z':
			scripts |= latin
			if i == 0 {
				class = atomNotCallable
			}
		case r == '_':
		case r >= '0' && r <= '9' && i > 0:
		case r == '@' && i > 0:
			class = atomNotCallable
		default:
			sc := letterScript(r)
			if sc == 0 {
				return atomOther
			}
			scripts |= sc
			if i == 0 && unicode.IsUpper(r) {
				class = atomNotCallable
			}
		}
	}
	if scripts&(scripts-1) != 0 {
		return atomOther
	}
	return class
}

type script uint8

const (
	latin script = 1 << iota
	greek
	cyrillic
)

// letterScript returns the script of a non-ASCII letter that needs no quotes
// in any version of Elixir from 1.14 to 1.20, or 0.
func letterScript(r rune) script {
	switch {
	case r >= 'À' && r <= 'ÿ' && r != '×' && r != '÷':
		return latin
	case r >= 'Ά' && r <= 'ώ' && unicode.IsLetter(r):
		return greek
	case r >= 'Ё' && r <= 'џ' && r != 'Ѝ' && r != 'ѐ' && r != 'ѝ':
		return cyrillic
	}
	return 0
}

func (p *printer) elixirAtom(a Atom) {
	s := string(a)
	if s == "nil" || s == "true" || s == "false" {
		p.put(s)
		return
	}
	switch classify(s) {
	case atomAlias:
		if rest, ok := strings.CutPrefix(s, "Elixir."); ok && rest != "Elixir" && !strings.HasPrefix(rest, "Elixir.") {
			s = rest
		}
		p.text(s)
	case atomOther, atomQuotedOp:
		p.put(":")
		p.quoted(s, '"')
	default:
		p.put(":")
		p.text(s)
	}
}

// elixirKey writes an atom as a key, with its colon.
func (p *printer) elixirKey(a Atom) {
	switch classify(string(a)) {
	case atomAlias, atomOther, atomQuotedOp:
		p.quoted(string(a), '"')
	default:
		p.text(string(a))
	}
	p.put(":")
}

// elixirCall writes the name of a function behind its module's dot.
func (p *printer) elixirCall(a Atom) {
	switch classify(string(a)) {
	case atomIdentifier, atomOperator, atomQuotedOp:
		p.text(string(a))
	default:
		p.quoted(string(a), '"')
	}
}

// nodePrefix writes the node of an identifier: "0." if it is local.
func (p *printer) nodePrefix(n Atom) {
	if n == "" || n == p.Node {
		p.put("0.")
		return
	}
	p.bare(n)
	p.put(":")
}

// bare writes the name of a node or module without quotes if it is made of
// letters, digits, "_", "@", "." and "-", and cannot be taken for "0.".
func (p *printer) bare(a Atom) {
	s := string(a)
	ok := !strings.HasPrefix(s, "0.")
	for i := range len(s) {
		ok = ok && (asciiWord(s[i]) || s[i] == '@' || s[i] == '.' || s[i] == '-')
	}
	if ok {
		p.text(s)
		return
	}
	p.quoted(s, '\'')
}

func (p *printer) pid(open string, t Pid) {
	p.put(open)
	p.nodePrefix(t.Node)
	p.put(strconv.FormatUint(uint64(t.ID), 10))
	p.put("." + strconv.FormatUint(uint64(t.Serial), 10) + ">")
}

func (p *printer) port(t Port) {
	p.put("#Port<")
	p.nodePrefix(t.Node)
	p.put(strconv.FormatUint(t.ID, 10) + ">")
}

// ref writes the words of a reference, the last one first.
func (p *printer) ref(open string, t Ref) {
	p.put(open)
	p.nodePrefix(t.Node)
	n := min(int(t.Len), len(t.Words))
	for i := n - 1; i >= 0; i-- {
		p.put(strconv.FormatUint(uint64(t.Words[i]), 10))
		if i > 0 {
			p.put(".")
		}
	}
	p.put(">")
}
