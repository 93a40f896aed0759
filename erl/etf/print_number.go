package etf

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Finding decimal digits takes more than linear time.
const (
	cutHexBits = 4096    // integers that will be cut print in base 16 from here on
	hexBits    = 1 << 20 // all integers do
)

func (p *printer) int(i int64) {
	var buf [20]byte
	p.put(string(strconv.AppendInt(buf[:0], i, 10)))
}

func (p *printer) uint(u uint64) {
	var buf [20]byte
	p.put(string(strconv.AppendUint(buf[:0], u, 10)))
}

func (p *printer) big(i *big.Int) {
	if i == nil {
		p.invalid("integer")
		return
	}
	if bits := i.BitLen(); bits > hexBits || bits > cutHexBits && bits/4 > p.room() {
		p.hex(i)
		return
	}
	p.digits(i.String())
}

// hex writes as many leading hexadecimal digits of i as there is room for.
func (p *printer) hex(i *big.Int) {
	prefix := "16#"
	if p.Syntax == Elixir {
		prefix = "0x"
	}
	if i.Sign() < 0 {
		prefix = "-" + prefix
	}
	p.put(prefix)
	top := new(big.Int).Abs(i)
	// All digits but those that the cut surely drops; one more, so that it
	// does cut.
	if drop := (top.BitLen()+3)/4 - p.room() - 1; drop > 0 {
		top.Rsh(top, uint(drop)*4)
	}
	p.digits(strings.ToUpper(top.Text(16)))
}

// digits writes a number that may be cut anywhere.
func (p *printer) digits(s string) {
	for i := 0; i < len(s) && !p.full; i++ {
		p.putByte(s[i])
	}
}

func (p *printer) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		p.invalid("float")
		return
	}
	if a := math.Abs(f); p.Syntax == Elixir && a >= 1 && a < 1e16 && a == math.Trunc(a) {
		p.int(int64(f))
		p.put(".0")
		return
	}
	p.put(formatFloat(f))
}

// formatFloat writes the shortest digits that read back as f, as
// float_to_list(F, [short]) does: in whichever of the decimal and the
// scientific form is shorter, the decimal one on a tie, always the scientific
// one from 2^53 on, where not every integer is a float.
func formatFloat(f float64) string {
	sci := strconv.FormatFloat(f, 'e', -1, 64)
	digits, exp, _ := strings.Cut(sci, "e")
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	n, _ := strconv.Atoi(exp)
	sci = digits + "e" + strconv.Itoa(n)
	if math.Abs(f) >= 1<<53 {
		return sci
	}
	dec := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(dec, ".") {
		dec += ".0"
	}
	if len(dec) <= len(sci) {
		return dec
	}
	return sci
}
