package etf

import "math/bits"

// Atoms are short and make up half of most terms, so the few loops over their
// bytes go eight at a time. A tail is read by a word that overlaps the one
// before it.

type text interface{ ~string | ~[]byte }

func load32[T text](s T, i int) uint32 {
	_ = s[i+3]
	return uint32(s[i]) | uint32(s[i+1])<<8 | uint32(s[i+2])<<16 | uint32(s[i+3])<<24
}

func load64[T text](s T, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// isASCII reports whether all bytes are below 128.
func isASCII[T text](s T) bool {
	const high = 0x8080808080808080
	n := len(s)
	if n >= 8 {
		all := load64(s, n-8)
		for i := 0; i < n-8; i += 8 {
			all |= load64(s, i)
		}
		return all&high == 0
	}
	if n >= 4 {
		return uint64(load32(s, 0)|load32(s, n-4))&high == 0
	}
	var all byte
	for i := range n {
		all |= s[i]
	}
	return all < 0x80
}

// hashBytes is a fast hash and no more: a collision may cost time, never
// correctness.
func hashBytes[T text](s T) uint64 {
	const m = 0x9E3779B97F4A7C15
	n := len(s)
	h := uint64(n) * m
	switch {
	case n >= 8:
		for i := 0; i < n-8; i += 8 {
			h = bits.RotateLeft64(h^load64(s, i), 29) * m
		}
		h = bits.RotateLeft64(h^load64(s, n-8), 29) * m
	case n >= 4:
		h = bits.RotateLeft64(h^(uint64(load32(s, 0))<<32|uint64(load32(s, n-4))), 29) * m
	default:
		for i := range n {
			h = (h ^ uint64(s[i])) * m
		}
	}
	return h
}
