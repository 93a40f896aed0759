package etf

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// compressedHead is the length of version, tag and inflated size.
const compressedHead = 6

func isCompressed(b []byte) bool { return len(b) > 1 && b[1] == tagCompressed }

// inflater unpacks compressed terms. It keeps its zlib state and its buffer.
type inflater struct {
	z   io.ReadCloser
	src bytes.Reader
	buf []byte
}

// inflate unpacks the compressed term at the start of b. It returns the term
// without tag, valid until the next call, and what follows the zlib stream in
// b. The declared size is only believed when that many bytes have come out.
func (f *inflater) inflate(b []byte, limit int) (term, rest []byte, err error) {
	if len(b) < compressedHead {
		return nil, nil, &SyntaxError{Offset: 1, Tag: tagCompressed, Msg: msgShort}
	}
	declared := uint64(binary.BigEndian.Uint32(b[2:]))
	if declared > uint64(limit) {
		return nil, nil, limitError(ErrTooLarge, 1)
	}
	defer f.src.Reset(nil) // or it would keep b
	if err := f.open(b[compressedHead:]); err != nil {
		return nil, nil, inflateError(err)
	}
	size := int(declared)
	if err := f.fill(size); err != nil {
		return nil, nil, inflateError(err)
	}
	// The checksum is verified only by reading past the end.
	var more [1]byte
	if n, err := f.z.Read(more[:]); n > 0 || err == nil {
		return nil, nil, inflateError(fmt.Errorf("more than the declared %d bytes", size))
	} else if err != io.EOF {
		return nil, nil, inflateError(err)
	}
	return f.buf[:size], b[len(b)-f.src.Len():], nil
}

func (f *inflater) open(b []byte) error {
	f.src.Reset(b)
	if f.z == nil {
		z, err := zlib.NewReader(&f.src)
		f.z = z
		return err
	}
	return f.z.(zlib.Resetter).Reset(&f.src, nil)
}

// fill reads size bytes into f.buf, which grows by doubling as they come.
func (f *inflater) fill(size int) error {
	const first, keep = 16 << 10, 1 << 20
	if cap(f.buf) > keep {
		f.buf = nil
	}
	f.buf = f.buf[:0]
	for len(f.buf) < size {
		if len(f.buf) == cap(f.buf) {
			grown := make([]byte, len(f.buf), min(size, max(first, 2*cap(f.buf))))
			copy(grown, f.buf)
			f.buf = grown
		}
		n, err := f.z.Read(f.buf[len(f.buf):min(cap(f.buf), size)])
		f.buf = f.buf[:len(f.buf)+n]
		if err != nil && (err != io.EOF || len(f.buf) < size) {
			return fmt.Errorf("after %d bytes: %w", len(f.buf), err)
		}
	}
	return nil
}

func inflateError(err error) error {
	return &SyntaxError{Offset: 1, Tag: tagCompressed, Msg: "inflate: " + err.Error()}
}
