package etf

import (
	"strconv"
	"strings"
)

// elixir writes t as inspect/2 does.
func (p *printer) elixir(t Term) {
	switch t := t.(type) {
	case Atom:
		p.elixirAtom(t)
	case Int:
		p.int(int64(t))
	case BigInt:
		p.big(t.Int)
	case Float:
		p.float(float64(t))
	case Binary:
		p.elixirBinary(t)
	case Bitstring:
		p.bits(t, ", ", "::size(", ")")
	case String:
		p.elixirString(t)
	case List:
		p.elixirList(t)
	case ImproperList:
		p.improper(t, " | ")
	case Tuple:
		p.seq("{", "}", len(t), func(i int) { p.term(t[i]) })
	case Map:
		p.elixirMap(t)
	case Pid:
		p.pid("#PID<", t)
	case Port:
		p.port(t)
	case Ref:
		p.ref("#Reference<", t)
	case Export:
		p.put("&")
		p.elixirAtom(t.Module)
		p.put(".")
		p.elixirCall(t.Function)
		p.put("/" + strconv.Itoa(int(t.Arity)))
	case *Record:
		p.record(t)
	case *Fun:
		if t == nil {
			p.invalid("fun")
			return
		}
		p.put("#Function<" + strconv.FormatUint(uint64(t.Index), 10))
		p.put("." + strconv.FormatUint(uint64(t.OldUniq), 10))
		p.put("/" + strconv.Itoa(int(t.Arity)) + " in ")
		p.elixirAtom(t.Module)
		p.put(">")
	default:
		p.invalid("nil")
	}
}

func (p *printer) elixirBinary(b Binary) {
	if p.tooWide(len(b)) {
		return
	}
	if !p.NoText {
		if kind := p.kindOf(b, elixirPrintable); kind == asciiText || kind == utf8Text {
			p.put(`"`)
			p.utf8(b, '"')
			p.put(`"`)
			return
		}
	}
	p.bits(Bitstring{Bytes: b}, ", ", "::size(", ")")
}

func (p *printer) elixirString(s String) {
	if p.tooWide(len(s)) {
		return
	}
	if len(s) == 0 || p.NoText || p.lists || !latin1Text(s[:p.look(len(s))], charlistPrintable) {
		p.bytesAsList(s)
		return
	}
	p.put(`~c"`)
	latin1(p, s, '"')
	p.put(`"`)
}

func (p *printer) elixirList(l List) {
	if p.tooWide(len(l)) {
		return
	}
	switch {
	case len(l) == 0:
		p.put("[]")
	case !p.NoText && !p.lists && charlist(l[:p.look(len(l))], charlistPrintable):
		p.put(`~c"`)
		p.chars(l)
		p.put(`"`)
	case p.keywords(len(l), func(i int) Term { return keywordKey(l[i]) }):
		p.seq("[", "]", len(l), func(i int) {
			kv := l[i].(Tuple)
			p.keyword(kv[0].(Atom), kv[1])
		})
	default:
		p.seq("[", "]", len(l), func(i int) { p.term(l[i]) })
	}
}

// keywordKey returns the first element of a pair.
func keywordKey(t Term) Term {
	if kv, ok := t.(Tuple); ok && len(kv) == 2 {
		return kv[0]
	}
	return nil
}

// keywords says whether n keys, or as many as can be printed, can be written
// as "key: value": they are atoms and no modules.
func (p *printer) keywords(n int, key func(i int) Term) bool {
	for i := range p.look(n) {
		a, ok := key(i).(Atom)
		if !ok || strings.HasPrefix(string(a), "Elixir.") {
			return false
		}
	}
	return true
}

func (p *printer) keyword(k Atom, v Term) {
	p.elixirKey(k)
	p.put(" ")
	p.term(v)
}

func (p *printer) elixirMap(m Map) {
	if p.tooWide(len(m)) {
		return
	}
	if s, ok := structOf(m[:p.look(len(m))]); ok && p.keywords(len(s.fields), func(i int) Term { return s.fields[i].Key }) {
		if !p.sugar(s) {
			p.strct(s)
		}
		return
	}
	if p.keywords(len(m), func(i int) Term { return m[i].Key }) {
		p.seq("%{", "}", len(m), func(i int) { p.keyword(m[i].Key.(Atom), m[i].Value) })
		return
	}
	p.seq("%{", "}", len(m), func(i int) {
		p.term(m[i].Key)
		p.put(" => ")
		p.term(m[i].Value)
	})
}

// elixirStruct is a map with a module under __struct__.
type elixirStruct struct {
	name   Atom
	fields Map // without __struct__ and __exception__: true
}

func structOf(m Map) (s elixirStruct, ok bool) {
	for _, kv := range m {
		if kv.Key == Atom("__struct__") {
			s.name, _ = kv.Value.(Atom)
		}
	}
	if classify(string(s.name)) != atomAlias {
		return s, false
	}
	s.fields = make(Map, 0, len(m))
	for _, kv := range m {
		if kv.Key != Atom("__struct__") && !(kv.Key == Atom("__exception__") && kv.Value == Atom("true")) {
			s.fields = append(s.fields, kv)
		}
	}
	return s, true
}

func (p *printer) strct(s elixirStruct) {
	p.put("%")
	p.elixirAtom(s.name)
	p.seq("{", "}", len(s.fields), func(i int) { p.keyword(s.fields[i].Key.(Atom), s.fields[i].Value) })
}
