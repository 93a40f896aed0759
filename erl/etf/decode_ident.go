package etf

import "encoding/binary"

const maxRefWords = 5

// pidNumbers reads what follows the node of a pid.
func (s *source) pidNumbers(at int, tag byte) (id, serial, creation uint32, err error) {
	n := uint64(9)
	if tag == tagNewPid {
		n = 12
	}
	b, ok := s.take(n)
	if !ok {
		return 0, 0, 0, s.short(at)
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), creationOf(b[8:]), nil
}

// portNumbers reads what follows the node of a port.
func (s *source) portNumbers(at int, tag byte) (id uint64, creation uint32, err error) {
	n := uint64(5)
	switch tag {
	case tagNewPort:
		n = 8
	case tagV4Port:
		n = 12
	}
	b, ok := s.take(n)
	if !ok {
		return 0, 0, s.short(at)
	}
	if tag == tagV4Port {
		return binary.BigEndian.Uint64(b), creationOf(b[8:]), nil
	}
	return uint64(binary.BigEndian.Uint32(b)), creationOf(b[4:]), nil
}

// creationOf reads a creation of one byte (old tags) or four.
func creationOf(b []byte) uint32 {
	if len(b) == 1 {
		return uint32(b[0])
	}
	return binary.BigEndian.Uint32(b)
}

// refLen reads the number of words of a reference, which stands before its
// node.
func (s *source) refLen(at int, tag byte) (uint8, error) {
	if tag == tagRef {
		return 1, nil
	}
	n, ok := s.u16()
	if !ok {
		return 0, s.short(at)
	}
	if n < 1 || n > maxRefWords {
		return 0, s.bad(at, "reference has a wrong number of words")
	}
	return uint8(n), nil
}

// refNumbers reads what follows the node of a reference of n words.
func (s *source) refNumbers(at int, tag byte, n uint8) (creation uint32, words [maxRefWords]uint32, err error) {
	if tag == tagRef { // the only one with its creation at the end
		b, ok := s.take(5)
		if !ok {
			return 0, words, s.short(at)
		}
		words[0] = binary.BigEndian.Uint32(b)
		return uint32(b[4]), words, nil
	}
	size := uint64(1)
	if tag == tagNewerRef {
		size = 4
	}
	b, ok := s.take(size + 4*uint64(n))
	if !ok {
		return 0, words, s.short(at)
	}
	creation = creationOf(b[:size])
	for i := range words[:n] {
		words[i] = binary.BigEndian.Uint32(b[int(size)+4*i:])
	}
	return creation, words, nil
}

// exportArity reads the arity of an export, a SMALL_INTEGER_EXT.
func (s *source) exportArity(at int) (uint8, error) {
	b, ok := s.take(2)
	switch {
	case !ok:
		return 0, s.short(at)
	case b[0] != tagSmallInt:
		return 0, s.bad(at, "arity is not a small integer")
	}
	return b[1], nil
}
