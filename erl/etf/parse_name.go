package etf

import (
	"strconv"
	"strings"
)

// ParsePid reads a pid as its own node prints it: <0.123.0>, #PID<0.123.0> or
// 0.123.0. The error is a *ParseError.
func ParsePid(s string) (id, serial uint32, err error) {
	p := &parser{src: s}
	p.space()
	bracket := p.accept("#PID<") || p.accept("<")
	start := p.pos
	t, err := p.pidBody()
	if err != nil {
		return 0, 0, err
	}
	if bracket {
		if !p.accept(">") {
			return 0, 0, p.unexpected(">")
		}
	}
	p.space()
	if p.pos < len(s) {
		return 0, 0, p.unexpected("the end of the pid")
	}
	if t.Node != "" {
		return 0, 0, p.fail(start, "the pid names its node", "give the node separately and the pid as <0."+
			strconv.FormatUint(uint64(t.ID), 10)+"."+strconv.FormatUint(uint64(t.Serial), 10)+">")
	}
	return t.ID, t.Serial, nil
}

// ParseName reads a registered name or a module as an operator types it:
// my_worker, :my_worker, 'my worker', :"my worker", and My.Worker or
// Elixir.My.Worker, which both are 'Elixir.My.Worker'. The error is a
// *ParseError.
func ParseName(s string) (Atom, error) {
	p := &parser{src: s, syntax: Elixir}
	for p.pos < len(s) && s[p.pos] == ' ' {
		p.pos++
	}
	a, err := p.name()
	if err != nil {
		return "", err
	}
	for p.pos < len(s) && s[p.pos] == ' ' {
		p.pos++
	}
	if p.pos < len(s) {
		return "", p.fail(p.pos, "unexpected "+showRune([]rune(s[p.pos:])[0])+" in a name", "quote it: "+Format(Atom(strings.TrimSpace(s)), PrintOptions{MaxBytes: 100}))
	}
	return a, nil
}

func (p *parser) name() (Atom, error) {
	colon := p.accept(":")
	start := p.pos
	switch c := p.peek(0); {
	case c == '\'' || c == '"':
		p.pos++
		if c == '\'' && !colon {
			p.syntax = Erlang
		}
		chars, err := p.text(start, quotes{end: rune(c)})
		if err != nil {
			return "", err
		}
		return p.textAtom(start, chars)
	case c >= 'A' && c <= 'Z' && !colon:
		return p.alias()
	}
	word := p.word()
	if word == "" {
		return "", p.unexpected("a name")
	}
	return p.atom(start, word)
}
