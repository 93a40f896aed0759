package main

import (
	"bytes"
	"io"
	"sync"
)

// keyReader gives a line editor the keys of a terminal, but for Ctrl-C: while a
// line is read it drops the line, else it calls interrupt.
type keyReader struct {
	interrupt func()

	mu      sync.Mutex
	ready   *sync.Cond
	keys    []byte
	err     error
	reading bool
	dropped bool // the line that is read
}

// maxTyped bounds what is typed ahead.
const maxTyped = 1 << 20

// dropLine are keys that make the line editor return an empty line: to its end,
// delete to its beginning, Enter.
var dropLine = []byte{5, 21, '\r'}

func newKeyReader(in io.Reader, interrupt func()) *keyReader {
	k := &keyReader{interrupt: interrupt}
	k.ready = sync.NewCond(&k.mu)
	go k.run(in)
	return k
}

// run reads keys until the terminal is gone.
func (k *keyReader) run(in io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		k.take(buf[:n])
		if err != nil {
			k.fail(err)
			return
		}
	}
}

func (k *keyReader) take(keys []byte) {
	for {
		i := bytes.IndexByte(keys, keyInterrupt)
		if i < 0 {
			k.add(keys)
			return
		}
		k.add(keys[:i])
		keys = keys[i+1:]
		k.mu.Lock()
		reading := k.reading
		k.keys = k.keys[:0] // what was typed before
		if reading && !k.dropped {
			k.dropped = true
			k.keys = append(k.keys, dropLine...)
			k.ready.Broadcast()
		}
		k.mu.Unlock()
		if !reading {
			k.interrupt()
		}
	}
}

func (k *keyReader) add(keys []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys)+len(keys) <= maxTyped {
		k.keys = append(k.keys, keys...)
		k.ready.Broadcast()
	}
}

func (k *keyReader) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
	}
	k.ready.Broadcast()
}

func (k *keyReader) close() { k.fail(io.EOF) }

// Read is for the line editor.
func (k *keyReader) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.keys) == 0 && k.err == nil {
		k.ready.Wait()
	}
	if len(k.keys) == 0 {
		return 0, k.err
	}
	n := copy(p, k.keys)
	k.keys = k.keys[n:]
	return n, nil
}

// begin and end say that a line is read.
func (k *keyReader) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reading, k.dropped = true, false
}

func (k *keyReader) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reading = false
}

// interrupted tells whether the line was dropped.
func (k *keyReader) interrupted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropped
}
