package etf

import "math"

// Syntax is the language in which terms are printed and parsed.
type Syntax uint8

const (
	// Erlang prints as io_lib's ~tp and reads Erlang literals.
	Erlang Syntax = iota
	// Elixir prints as inspect/2 and reads Elixir literals.
	Elixir
)

// String returns "erlang" or "elixir".
func (s Syntax) String() string {
	if s == Elixir {
		return "elixir"
	}
	return "erlang"
}

// PrintOptions says how Format writes a term. The zero value writes the whole
// term in Erlang syntax on one line.
//
// The text is that of io_lib:format("~0tp") under +pc unicode, respectively of
// inspect(term, limit: :infinity, printable_limit: :infinity), except that:
//
//   - Characters that could drive or confuse a terminal are escaped in texts
//     and atoms: all controls and format characters (bidirectional overrides,
//     zero width characters, tags), line separators and unusual spaces. Erlang
//     prints many of them as they are.
//   - Pids, ports and references of other nodes than Node carry their node's
//     name, as in <shop@db1:123.0> and #PID<shop@db1:123.0>, where Erlang has a
//     number that only the printing node understands.
//   - Maps and the fields of structs keep the sender's order.
//   - Elixir: a map with a module under __struct__ and atoms as keys prints as a
//     struct, whether or not the module exists, without __exception__: true.
//     Only Range, MapSet, Date, Time, NaiveDateTime, DateTime, Date.Range and
//     Regex print as something else. Other implementations of the Inspect
//     protocol are the target's code, which nobody asks: fields that they
//     would hide are shown. #Function<…> names the module, not the
//     enclosing function, which the fun does not carry. Atoms beyond ASCII,
//     Latin-1, Greek and Cyrillic letters are quoted.
//   - Erlang: maybe and else are quoted, as they are since OTP 27. The names
//     in fun m:f/1 are quoted as other atoms are; OTP has another rule there,
//     by which not all of them can be read back.
//   - Whether a binary or list is text is decided on its first 64 KiB if the
//     rest is sure to be cut.
//   - An integer of more than 1 Mibit, or of more than 4096 bits that MaxBytes
//     cuts even in base 16, prints in that base, in which digits cost little.
//   - A Date.Range that is empty because its first date is behind its last one
//     prints with its step.
type PrintOptions struct {
	Syntax Syntax

	// MaxDepth is how many containers may be nested; the content of deeper
	// ones prints as "...". 0, or more than 10,000, means 10,000.
	MaxDepth int

	// MaxBytes is the length of the result in bytes at which it is cut, with
	// "..." as its end. The cut never splits a character or an escape, and
	// what is beyond it costs nothing. 0 means no limit.
	MaxBytes int

	// Width, if positive, spreads containers that would not fit into that many
	// bytes a line over several lines, one element each.
	Width int

	// Node is the node whose pids, ports and references print as local, as in
	// <0.123.0>. Those without a node name always do.
	Node Atom

	// NoText prints lists and binaries as numbers also where they look like
	// text: ~tw in Erlang, charlists: :as_lists, binaries: :as_binaries in
	// Elixir.
	NoText bool
}

// maxDepth bounds the recursion of the printer.
const maxDepth = 10_000

const ellipsis = "..."

// Format returns t as text. It never fails: what is no Erlang term, such as a
// nil Term or a Float that is not finite, prints as #Invalid<…>.
func Format(t Term, o PrintOptions) string {
	return string(AppendFormat(nil, t, o))
}

// FormatCut is Format; it also says whether MaxDepth or MaxBytes left
// something out.
func FormatCut(t Term, o PrintOptions) (text string, cut bool) {
	p := newPrinter(nil, o)
	p.term(t)
	return string(p.dst), p.cut
}

// AppendFormat appends the text of t to dst. MaxBytes counts what is appended.
func AppendFormat(dst []byte, t Term, o PrintOptions) []byte {
	p := newPrinter(dst, o)
	p.term(t)
	return p.dst
}

// printer holds the state of one Format. Everything is written through put,
// which knows the limit; all loops end once full is set.
type printer struct {
	PrintOptions
	dst    []byte
	limit  int  // len(dst) may not grow beyond
	final  int  // the limit that MaxBytes set; limit is smaller in a trial
	mark   int  // where to cut so that the ellipsis fits
	cut    bool // something was left out
	full   bool // limit was hit: nothing more can be written
	trial  bool // the text is thrown away if it hits the limit
	lists  bool // lists of characters print as lists (inside a MapSet)
	depth  int
	line   int // index in dst at which the current line starts
	indent int
}

func newPrinter(dst []byte, o PrintOptions) printer {
	if o.MaxDepth <= 0 || o.MaxDepth > maxDepth {
		o.MaxDepth = maxDepth
	}
	p := printer{PrintOptions: o, dst: dst, final: math.MaxInt, mark: len(dst), line: len(dst)}
	if o.MaxBytes > 0 && o.MaxBytes < math.MaxInt-len(dst) {
		p.final = len(dst) + o.MaxBytes
	}
	p.limit = p.final
	return p
}

// put writes s, which is not split by a cut.
func (p *printer) put(s string) {
	if p.full {
		return
	}
	if len(s) > p.limit-len(p.dst) {
		p.overflow()
		return
	}
	p.dst = append(p.dst, s...)
	p.note()
}

func (p *printer) putByte(c byte) {
	if p.full {
		return
	}
	if p.limit == len(p.dst) {
		p.overflow()
		return
	}
	p.dst = append(p.dst, c)
	p.note()
}

// note remembers the last place at which the text may be cut.
func (p *printer) note() {
	if len(p.dst) <= p.final-len(ellipsis) {
		p.mark = len(p.dst)
	}
}

// overflow ends the text at the limit.
func (p *printer) overflow() {
	p.full = true
	if p.trial {
		return
	}
	p.cut = true
	room := min(p.limit-p.mark, len(ellipsis))
	p.dst = append(p.dst[:p.mark], ellipsis[:room]...)
}

// room is how many bytes can still be written.
func (p *printer) room() int { return p.limit - len(p.dst) }

func (p *printer) term(t Term) {
	if p.full {
		return
	}
	if p.Syntax == Elixir {
		p.elixir(t)
	} else {
		p.erlang(t)
	}
}

// seq writes a container of n elements between open and end. each writes one
// element; it is called in order and not after the limit was hit.
func (p *printer) seq(open, end string, n int, each func(i int)) {
	if n == 0 {
		p.put(open)
		p.put(end)
		return
	}
	if p.depth >= p.MaxDepth {
		p.cut = true
		p.put(open)
		p.put(ellipsis)
		p.put(end)
		return
	}
	p.depth++
	switch {
	case p.Width <= 0 || p.trial:
		p.flat(open, end, n, each)
	case !p.fits(open, end, n, each):
		p.lines(open, end, n, each)
	}
	p.depth--
}

// lines writes a container with one element a line.
func (p *printer) lines(open, end string, n int, each func(i int)) {
	p.put(open)
	p.indent += 2
	for i := 0; i < n && !p.full; i++ {
		if i > 0 {
			p.put(",")
		}
		p.newline()
		each(i)
	}
	p.indent -= 2
	p.newline()
	p.put(end)
}

func (p *printer) flat(open, end string, n int, each func(i int)) {
	sep := ","
	if p.Syntax == Elixir {
		sep = ", "
	}
	p.put(open)
	for i := 0; i < n && !p.full; i++ {
		if i > 0 {
			p.put(sep)
		}
		each(i)
	}
	p.put(end)
}

// fits writes the container on the current line if there is room. Whether it
// does costs at most Width bytes of text to find out.
func (p *printer) fits(open, end string, n int, each func(i int)) bool {
	saved := *p
	p.trial = true
	// One byte stays free for the comma or bracket that follows.
	p.limit = max(p.line+p.Width-1, len(p.dst))
	p.flat(open, end, n, each)
	if fits := !p.full; !fits || len(p.dst) > p.final {
		dst := p.dst
		*p = saved
		p.dst = dst[:len(saved.dst)]
		if fits { // but for MaxBytes
			p.flat(open, end, n, each)
		}
		return fits
	}
	p.trial, p.limit = false, p.final
	return true
}

func (p *printer) newline() {
	p.putByte('\n')
	p.line = len(p.dst)
	// Never more than a line, so that depth cannot multiply the text.
	for range min(p.indent, p.Width) {
		p.putByte(' ')
	}
}

// invalid writes what is no Erlang term.
func (p *printer) invalid(what string) {
	p.put("#Invalid<" + what + ">")
}
