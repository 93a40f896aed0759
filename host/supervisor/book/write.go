package book

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// append writes a batch at the end, and the whole file anew when that is worth
// it.
func (b *Book) append(batch map[Name]change, order []Name) error {
	var buf []byte
	sync := false
	places := make([]place, len(order))
	for i, name := range order {
		c, at := batch[name], len(buf)
		buf = appendEntry(buf, name, c.value, c.deleted)
		places[i] = placeOf(b.size+int64(at), len(buf)-at)
		sync = sync || c.sync
	}
	if _, err := b.file.WriteAt(buf, b.size); err != nil {
		return errors.Join(err, b.file.Truncate(b.size))
	}
	if sync {
		if err := b.file.Sync(); err != nil {
			return err
		}
	}
	b.size += int64(len(buf))
	for i, name := range order {
		b.place(name, places[i], batch[name].deleted)
	}
	if garbage := b.size - b.live; garbage > slack && garbage > b.live {
		// What counts is on disk already. Where there is no room for a second file the
		// one there is goes on.
		_ = b.compact()
	}
	return nil
}

// place notes where the last entry of a name is.
func (b *Book) place(name Name, p place, deleted bool) {
	if old, ok := b.index.get(name); ok {
		b.live -= old.len()
		b.index.remove(name)
	}
	if !deleted {
		b.index.set(name, p)
		b.live += p.len()
	}
}

// compact writes a new file that has only what counts, and puts it in the place
// of the old one.
func (b *Book) compact() (err error) {
	f, err := os.CreateTemp(filepath.Dir(b.path), ".tmp-"+filepath.Base(b.path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	index, size, err := b.copyTo(f)
	if err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), b.path); err != nil {
		return err
	}
	b.file.Close()
	b.file, b.index, b.size, b.live = f, index, size, size
	if d, openErr := os.Open(filepath.Dir(b.path)); openErr == nil {
		_ = d.Sync() // a file system that cannot do that has the content all the same
		d.Close()
	}
	return nil
}

// copyTo writes what counts, and returns where it is then.
func (b *Book) copyTo(f io.Writer) (index, int64, error) {
	w := bufio.NewWriterSize(f, 256<<10)
	_, _ = w.WriteString(header) // Flush tells of errors
	at := int64(len(header))
	copied := index{}
	var buf []byte
	for name, p := range b.index.all() {
		if cap(buf) < int(p.len()) {
			buf = make([]byte, p.len())
		}
		buf = buf[:p.len()]
		if _, err := b.file.ReadAt(buf, p.at()); err != nil {
			return nil, 0, err
		}
		copied.set(name, placeOf(at, len(buf)))
		at += p.len()
		_, _ = w.Write(buf)
	}
	return copied, at, w.Flush()
}
