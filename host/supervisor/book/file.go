package book

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
)

const (
	header    = "debughost book 1\n"
	prefixLen = 8 // length and checksum
	minEntry  = 3 // of what follows them
	maxEntry  = minEntry + maxName + MaxValue
)

var table = crc32.MakeTable(crc32.Castagnoli)

func appendEntry(b []byte, name Name, value []byte, deleted bool) []byte {
	start := len(b)
	b = append(b, make([]byte, prefixLen)...)
	flag := byte(0)
	if deleted {
		flag, value = 1, nil
	}
	b = append(b, flag)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name.Kind)+len(name.ID)))
	b = append(append(b, name.Kind...), name.ID...)
	b = append(b, value...)
	body := b[start+prefixLen:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, table))
	return b
}

// errDamaged is an entry that was not written as a whole.
var errDamaged = errors.New("damaged entry")

// entry is what is read of one.
type entry struct {
	name    []byte // valid until the next, as is
	value   []byte // this
	deleted bool
	size    int // in the file
}

// readEntry reads one entry; io.EOF where there is none. buf is used again.
func readEntry(r io.Reader, buf *[]byte) (entry, error) {
	var prefix [prefixLen]byte
	switch _, err := io.ReadFull(r, prefix[:]); {
	case errors.Is(err, io.EOF):
		return entry{}, io.EOF
	case err != nil:
		return entry{}, damaged(err)
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n < minEntry || n > maxEntry {
		return entry{}, errDamaged
	}
	if uint32(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	body := (*buf)[:n]
	if _, err := io.ReadFull(r, body); err != nil {
		return entry{}, damaged(err)
	}
	names := uint32(binary.BigEndian.Uint16(body[1:]))
	if crc32.Checksum(body, table) != binary.BigEndian.Uint32(prefix[4:]) || body[0] > 1 || minEntry+names > n {
		return entry{}, errDamaged
	}
	return entry{body[minEntry : minEntry+names], body[minEntry+names:], body[0] == 1, prefixLen + int(n)}, nil
}

// damaged tells an end from a disk that cannot be read.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return err
}

// load reads the file, leaves out what is damaged, and tells each of what counts.
func (b *Book) load(each func(name Name, value []byte) error) (damaged int64, err error) {
	info, err := b.file.Stat()
	if err != nil {
		return 0, err
	}
	b.size, b.live = int64(len(header)), int64(len(header))
	head := make([]byte, min(info.Size(), b.size))
	if _, err := b.file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if !bytes.HasPrefix([]byte(header), head) {
		return 0, fmt.Errorf("it does not begin with %q: is it a debughost's?", header[:len(header)-1])
	}
	if len(head) < len(header) { // it is new, or was cut while it was
		_, err := b.file.WriteAt([]byte(header), 0)
		return 0, err
	}
	if damaged, err = b.scan(info.Size()); err != nil {
		return 0, err
	}
	if damaged > 0 {
		if err := b.mend(info.Size()); err != nil {
			return damaged, err
		}
	}
	return damaged, b.tell(each)
}

// scan finds the entries that are whole, and how many bytes are in none.
func (b *Book) scan(size int64) (damaged int64, err error) {
	all := names{}
	for at := b.size; at < size; {
		end, err := b.scanWhole(at, size, all)
		if err != nil || end == size {
			return damaged, err
		}
		if at, err = b.nextWhole(end, size); err != nil {
			return damaged, err
		}
		damaged += at - end
	}
	return damaged, nil
}

// scanWhole reads entries up to the first that is damaged, and returns where that
// is.
func (b *Book) scanWhole(at, size int64, all names) (end int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(b.file, at, size-at), 256<<10)
	var buf []byte
	for {
		e, err := readEntry(r, &buf)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errDamaged):
			return at, nil
		case err != nil:
			return at, err
		}
		b.place(nameOf(e.name, all), placeOf(at, e.size), e.deleted)
		at += int64(e.size)
		b.size = at
	}
}

// nextWhole is where the next whole entry behind a damaged one begins; size where
// there is none.
func (b *Book) nextWhole(at, size int64) (int64, error) {
	rest := make([]byte, size-at)
	if _, err := io.ReadFull(io.NewSectionReader(b.file, at, size-at), rest); err != nil {
		return 0, err
	}
	for i := 1; i+prefixLen+minEntry <= len(rest); i++ {
		if isEntry(rest[i:]) {
			return at + int64(i), nil
		}
	}
	return size, nil
}

// isEntry tells whether data begins with a whole entry. What makes no sense is
// sorted out before the checksum, which costs most.
func isEntry(data []byte) bool {
	n := binary.BigEndian.Uint32(data)
	if n < minEntry || n > maxEntry || int64(n) > int64(len(data)-prefixLen) {
		return false
	}
	body := data[prefixLen : prefixLen+n]
	names := uint32(binary.BigEndian.Uint16(body[1:]))
	return body[0] <= 1 && names <= maxName && minEntry+names <= n && crc32.Checksum(body, table) == binary.BigEndian.Uint32(data[4:])
}

// DamagedSuffix is what the name of a damaged file's copy ends with.
const DamagedSuffix = ".damaged"

// mend keeps a copy of a damaged file for whoever wants to look into it, and takes
// out of the file what is damaged. Where there is no room for these, what is damaged
// at the end goes, and the rest stays until there is.
func (b *Book) mend(size int64) error {
	b.keepCopy(size)
	if err := b.file.Truncate(b.size); err != nil {
		return err
	}
	_ = b.compact()
	return nil
}

func (b *Book) keepCopy(size int64) {
	path := b.path + DamagedSuffix
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = io.Copy(f, io.NewSectionReader(b.file, 0, size))
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
}

// tell reads what counts, in the order of the file.
func (b *Book) tell(each func(name Name, value []byte) error) error {
	type entryAt struct {
		name Name
		place
	}
	var places []entryAt
	for name, p := range b.index.all() {
		places = append(places, entryAt{name, p})
	}
	slices.SortFunc(places, func(p, q entryAt) int { return cmp.Compare(p.at(), q.at()) })
	r := bufio.NewReaderSize(io.NewSectionReader(b.file, 0, b.size), 256<<10)
	var at int64
	var buf []byte
	for _, p := range places {
		if _, err := r.Discard(int(p.at() - at)); err != nil {
			return err
		}
		e, err := readEntry(r, &buf)
		if err != nil {
			return err
		}
		at = p.at() + p.len()
		if err := each(p.name, e.value); err != nil {
			return fmt.Errorf("entry %.100q: %w", p.name, err)
		}
	}
	return nil
}
