package etf

// The limits that a zero field of Limits stands for.
const (
	DefaultMaxDepth      = 10_000
	DefaultMaxCompressed = 64 << 20
	DefaultMaxBig        = 4 << 20 // what OTP 25 can hold; OTP 27 holds 512 KiB
)

// Limits bounds what one decoded term may cost. The zero value is ready to
// use. Beside these limits memory is always proportional to the input: a
// declared length or count never allocates more than the input could hold.
type Limits struct {
	// MaxDepth is how many containers may be nested. A list counts once,
	// however long it is.
	MaxDepth int
	// MaxElements is how many elements all containers of one term may have
	// together; a map pair counts as two. 0 leaves only the rule above.
	MaxElements int
	// MaxCompressed is how many bytes a compressed term may inflate to.
	MaxCompressed int
	// MaxBig is the size of the largest integer in bytes.
	MaxBig int
}

func (l Limits) withDefaults() Limits {
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	if l.MaxElements <= 0 {
		l.MaxElements = int(^uint(0) >> 1)
	}
	if l.MaxCompressed <= 0 {
		l.MaxCompressed = DefaultMaxCompressed
	}
	if l.MaxBig <= 0 {
		l.MaxBig = DefaultMaxBig
	}
	return l
}
