// Package book keeps small values by name on disk, so that they survive the
// member: the supervisor's records. It is one file, to which changes are added
// and which is written anew when most of it is out of date.
//
// It does not know what the values mean, and does not keep them in memory.
//
//	b, damaged, err := book.Open(path, func(name book.Name, value []byte) error { … })
//	go b.Run(ctx)
//	n := b.Put(book.Name{Kind: "record/", ID: "x"}, value, true)
//	err = b.Wait(ctx, n) // it is on disk
//
// # The file
//
// It begins with the line "debughost book 1", and is then a sequence of entries:
//
//	length (4 bytes) | checksum (4 bytes) | deleted (1 byte) | n (2 bytes) | name (n bytes) | value
//
// Integers are big endian. The length is that of all that follows the checksum,
// which is its CRC-32 (Castagnoli). The last entry of a name counts. What is cut or
// does not match its checksum is left out, and what is whole behind it is found: what
// a crash of the machine has left half written is as if it had never been, and of
// what a disk has spoiled the rest is there.
package book

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// Book is the file. Its methods may be called from any goroutine; one that is
// not run writes nothing.
type Book struct {
	path string
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	pending map[Name]change // what is to be written, the last of each name
	order   []Name          // names in pending, as they came
	put     uint64          // changes so far
	durable uint64          // of them, those that are on disk
	failed  uint64          // of them, those that the last attempt could not write
	err     error           // why
	changed chan struct{}   // closed when durable or failed is another

	// Only for Run, and for Open before it.
	file  *os.File
	size  int64 // up to the last whole entry
	index index // of the last entry of each name
	live  int64 // bytes of those
}

type change struct {
	value   []byte
	deleted bool
	sync    bool
}

// Name is what a value is found by. In the file it is Kind and ID, one after the other.
// A book that has many values of one ID, which differ in Kind, keeps that in memory once
// if they are the same string.
type Name struct {
	Kind string // one of few; it ends with the first slash of the name, or is empty where there is none
	ID   string
}

// nameOf reads a name.
func nameOf(b []byte, all names) Name {
	kind := bytes.IndexByte(b, '/') + 1
	return Name{all.one(b[:kind]), all.one(b[kind:])}
}

func (n Name) String() string { return n.Kind + n.ID }

// Bounds.
const (
	maxName = 1 << 10
	// MaxValue is how long a value may be, in bytes.
	MaxValue = 1 << 20
	// A file is written anew when it has this much that is out of date, and more of
	// that than of what is not.
	slack = 1 << 20
)

// retryAfter is the pause after what could not be written.
const retryAfter = time.Second

// Open reads a file, which is made if it is not there, and tells of every value
// in it. damaged is how many bytes of it could not be read: they are left out, and the
// file as it was is kept beside it, with DamagedSuffix. Who does not call Run calls Close.
func Open(path string, each func(name Name, value []byte) error) (b *Book, damaged int64, err error) {
	b = &Book{path: path, wake: make(chan struct{}, 1), pending: map[Name]change{}, changed: make(chan struct{}), index: index{}}
	b.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open book: %w", err)
	}
	if damaged, err = b.load(each); err != nil {
		b.file.Close()
		return nil, 0, fmt.Errorf("read book %s: %w", path, err)
	}
	return b, damaged, nil
}

// Close lets go of the file. Run does it too.
func (b *Book) Close() error { return b.file.Close() }

// Put notes a value, which is written soon: sync says that it has to survive the
// machine's crash, else it only has to survive this process's. The number is for
// Wait. The value is the book's from now on.
func (b *Book) Put(name Name, value []byte, sync bool) uint64 {
	return b.note(name, change{value: value, sync: sync})
}

// Delete notes that a value is gone.
func (b *Book) Delete(name Name) uint64 { return b.note(name, change{deleted: true}) }

func (b *Book) note(name Name, c change) uint64 {
	if len(name.Kind)+len(name.ID) > maxName || len(c.value) > MaxValue {
		panic("book: a name or a value is longer than is allowed") // of our own making
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put++
	old, ok := b.pending[name]
	if !ok {
		b.order = append(b.order, name)
	}
	c.sync = c.sync || old.sync
	b.pending[name] = c
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return b.put
}

// Wait returns when all changes up to a number are on disk, or could not be
// written: that is tried again and again.
func (b *Book) Wait(ctx context.Context, n uint64) error {
	for {
		b.mu.Lock()
		durable, failed, err, changed := b.durable, b.failed, b.err, b.changed
		b.mu.Unlock()
		switch {
		case durable >= n:
			return nil
		case failed >= n:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Durable is the number up to which all changes are on disk, and what is closed
// when that is another one.
func (b *Book) Durable() (uint64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.durable, b.changed
}

// Run writes until ctx ends, and then what is left. It closes the file.
func (b *Book) Run(ctx context.Context) error {
	defer b.file.Close()
	for {
		select {
		case <-ctx.Done():
			return b.write()
		case <-b.wake:
		}
		if b.write() == nil {
			continue
		}
		select { // it is tried again, with what has come meanwhile
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// write writes what is pending.
func (b *Book) write() error {
	b.mu.Lock()
	batch, order, upTo := b.pending, b.order, b.put
	b.pending, b.order = map[Name]change{}, nil
	b.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := b.append(batch, order)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.failed, b.err = upTo, fmt.Errorf("write book %s: %w", b.path, err)
		for _, name := range order { // what is newer stays
			if _, ok := b.pending[name]; !ok {
				b.pending[name] = batch[name]
				b.order = append(b.order, name)
			}
		}
	} else {
		b.durable, b.err = upTo, nil
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return b.err
}
