package etf

import "strconv"

// erlang writes t as ~0tp does.
func (p *printer) erlang(t Term) {
	switch t := t.(type) {
	case Atom:
		p.erlangAtom(t)
	case Int:
		p.int(int64(t))
	case BigInt:
		p.big(t.Int)
	case Float:
		p.float(float64(t))
	case Binary:
		p.erlangBinary(t)
	case Bitstring:
		p.bits(t, ",", ":", "")
	case String:
		p.erlangString(t)
	case List:
		p.erlangList(t)
	case ImproperList:
		p.improper(t, "|")
	case Tuple:
		p.seq("{", "}", len(t), func(i int) { p.term(t[i]) })
	case Map:
		p.seq("#{", "}", len(t), func(i int) {
			p.term(t[i].Key)
			p.put(" => ")
			p.term(t[i].Value)
		})
	case Pid:
		p.pid("<", t)
	case Port:
		p.port(t)
	case Ref:
		p.ref("#Ref<", t)
	case Export:
		p.put("fun ")
		p.erlangAtom(t.Module)
		p.put(":")
		p.erlangAtom(t.Function)
		p.put("/" + strconv.Itoa(int(t.Arity)))
	case *Record:
		p.record(t)
	case *Fun:
		if t == nil {
			p.invalid("fun")
			return
		}
		p.put("#Fun<")
		p.bare(t.Module)
		p.put("." + strconv.FormatUint(uint64(t.OldIndex), 10))
		p.put("." + strconv.FormatUint(uint64(t.OldUniq), 10) + ">")
	default:
		p.invalid("nil")
	}
}

// record writes a native record, which has one syntax in both languages.
func (p *printer) record(r *Record) {
	if r == nil {
		p.invalid("record")
		return
	}
	syntax := p.Syntax
	p.Syntax = Erlang
	p.put("#")
	p.erlangAtom(r.Module)
	p.put(":")
	p.erlangAtom(r.Name)
	p.seq("{", "}", len(r.Fields), func(i int) {
		p.erlangAtom(r.Fields[i].Name)
		p.put(" = ")
		p.term(r.Fields[i].Value)
	})
	p.Syntax = syntax
}

func (p *printer) erlangBinary(b Binary) {
	if p.tooWide(len(b)) {
		return
	}
	kind := notText
	if len(b) > 0 && !p.NoText {
		kind = p.kindOf(b, erlangPrintable)
	}
	if kind == notUTF8 && !latin1Text(b[:p.look(len(b))], erlangPrintable) {
		kind = notText
	}
	if kind == notText {
		p.bits(Bitstring{Bytes: b}, ",", ":", "")
		return
	}
	p.put(`<<"`)
	switch kind {
	case utf8Text:
		p.utf8(b, '"')
		p.put(`"/utf8>>`)
	case asciiText:
		p.utf8(b, '"')
		p.put(`">>`)
	default:
		latin1(p, b, '"')
		p.put(`">>`)
	}
}

// bits writes <<1,2,3:4>>: every byte as a number, the last one with its size.
func (p *printer) bits(b Bitstring, sep, sizeOpen, sizeEnd string) {
	p.put("<<")
	for i, c := range b.Bytes {
		if p.full {
			return
		}
		if i > 0 {
			p.put(sep)
		}
		if i == len(b.Bytes)-1 && b.Bits > 0 && b.Bits < 8 {
			p.uint(uint64(c >> (8 - b.Bits)))
			p.put(sizeOpen + strconv.Itoa(int(b.Bits)) + sizeEnd)
			break
		}
		p.uint(uint64(c))
	}
	p.put(">>")
}

func (p *printer) erlangString(s String) {
	if p.tooWide(len(s)) {
		return
	}
	if len(s) == 0 || p.NoText || !latin1Text(s[:p.look(len(s))], erlangPrintable) {
		p.bytesAsList(s)
		return
	}
	p.put(`"`)
	latin1(p, s, '"')
	p.put(`"`)
}

func (p *printer) bytesAsList(s String) {
	p.seq("[", "]", len(s), func(i int) { p.uint(uint64(s[i])) })
}

func (p *printer) erlangList(l List) {
	if p.tooWide(len(l)) {
		return
	}
	if len(l) == 0 || p.NoText || !charlist(l[:p.look(len(l))], erlangPrintable) {
		p.seq("[", "]", len(l), func(i int) { p.term(l[i]) })
		return
	}
	p.put(`"`)
	p.chars(l)
	p.put(`"`)
}

// chars writes the characters of a charlist.
func (p *printer) chars(l List) {
	for i := 0; i < len(l) && !p.full; i++ {
		if c, ok := l[i].(Int); ok {
			p.char(rune(c), '"', i+1 < len(l) && l[i+1] == Int('{'))
		}
	}
}

func (p *printer) improper(l ImproperList, bar string) {
	n := len(l.Elems)
	if n == 0 {
		p.invalid("list")
		return
	}
	p.seq("[", "]", n, func(i int) {
		p.term(l.Elems[i])
		if i == n-1 {
			p.put(bar)
			p.term(l.Tail)
		}
	})
}
