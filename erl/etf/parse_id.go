package etf

import (
	"strconv"
	"strings"
)

// node reads what stands before the numbers of a pid, port or reference: "0."
// for the local node, else the node's name and a colon.
func (p *parser) node() (Atom, error) {
	if p.accept("0.") {
		return "", nil
	}
	start := p.pos
	if p.accept("'") {
		chars, err := p.text(start, quotes{end: '\''})
		if err != nil {
			return "", err
		}
		if err := p.expect(":"); err != nil {
			return "", err
		}
		return p.textAtom(start, chars)
	}
	n := 0
	for asciiWord(p.peek(n)) || p.peek(n) == '@' || p.peek(n) == '.' || p.peek(n) == '-' {
		n++
	}
	if p.peek(n) != ':' {
		hint := "write <0.123.0>"
		if isDigit(p.peek(0)) {
			hint = "the first number of another node's pid means something on the node that printed it only: write 0, or the node's name as in <shop@db1:123.0>"
		}
		return "", p.fail(start, "expected 0. or the name of a node", hint)
	}
	name := p.src[start : start+n]
	p.pos += n + 1
	return p.atom(start, name)
}

// unsigned reads an unsigned number of at most bits bits.
func (p *parser) unsigned(bits int) (uint64, error) {
	start := p.pos
	n := 0
	for isDigit(p.peek(n)) {
		n++
	}
	if n == 0 {
		return 0, p.unexpected("a number")
	}
	v, err := strconv.ParseUint(p.src[start:start+n], 10, bits)
	if err != nil {
		return 0, p.fail(start, "a number of more than "+strconv.Itoa(bits)+" bits", "")
	}
	p.pos += n
	return v, nil
}

// pidBody reads 0.123.0 or shop@db1:123.0.
func (p *parser) pidBody() (Pid, error) {
	n, err := p.node()
	if err != nil {
		return Pid{}, err
	}
	id, err := p.unsigned(32)
	if err != nil {
		return Pid{}, err
	}
	if !p.accept(".") {
		return Pid{}, p.unexpected(".")
	}
	serial, err := p.unsigned(32)
	return Pid{Node: n, ID: uint32(id), Serial: uint32(serial)}, err
}

// identifier reads a pid, port or reference behind its opening bracket.
func (p *parser) identifier(kind string) (t Term, err error) {
	switch kind {
	case "PID":
		t, err = p.pidBody()
	case "Port":
		t, err = p.portBody()
	default:
		t, err = p.refBody()
	}
	if err != nil {
		return nil, err
	}
	if !p.accept(">") {
		return nil, p.unexpected(">")
	}
	return t, nil
}

func (p *parser) portBody() (Port, error) {
	n, err := p.node()
	if err != nil {
		return Port{}, err
	}
	id, err := p.unsigned(64)
	return Port{Node: n, ID: id}, err
}

// refBody reads the words of a reference, the last one first.
func (p *parser) refBody() (Ref, error) {
	start := p.pos
	n, err := p.node()
	if err != nil {
		return Ref{}, err
	}
	r := Ref{Node: n}
	for {
		w, err := p.unsigned(32)
		if err != nil {
			return Ref{}, err
		}
		if int(r.Len) == len(r.Words) {
			return Ref{}, p.fail(start, "a reference of more than 5 words", "")
		}
		r.Words[r.Len] = uint32(w)
		r.Len++
		if !p.accept(".") {
			break
		}
	}
	for i, j := 0, int(r.Len)-1; i < j; i, j = i+1, j-1 {
		r.Words[i], r.Words[j] = r.Words[j], r.Words[i]
	}
	return r, nil
}

// hash reads #Name<…> at its "#".
func (p *parser) hash(kinds map[string]string) (Term, error) {
	start := p.pos
	for open, kind := range kinds {
		if p.accept(open) {
			return p.identifier(kind)
		}
	}
	name, _, ok := strings.Cut(p.src[start:], "<")
	if ok && len(name) > 1 && len(name) < 64 && p.syntax == Elixir {
		return nil, p.fail(start, name+"<…> cannot be read back", "")
	}
	return nil, p.fail(start, "what begins with # here cannot be read back", "")
}
