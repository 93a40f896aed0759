package cluster

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// Ring is the cluster keys that a member has. Members understand each other
// when each has the other's primary key, so that a key is replaced in three
// steps, each on all members before the next: Add, Use, and Remove the old one.
// Connections that are open stay. All methods may be called from any goroutine.
//
// Changes take effect at once and are written to the key file. Where that
// fails, the change stays in force and the error is a *KeyFileError.
type Ring struct {
	path   string // "" where it has no file
	gossip *memberlist.Keyring

	mu      sync.Mutex
	keys    []Key // never empty; the primary first
	version uint64
	changed func(what, id string) // what happened to a key
}

// NewRing returns a ring of these keys, the primary first, that has no file.
func NewRing(keys ...Key) (*Ring, error) {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("make key ring: %d keys, want 1 to %d", len(keys), MaxKeys)
	}
	return newRing("", keys...), nil
}

func newRing(path string, keys ...Key) *Ring {
	r := &Ring{path: path, keys: slices.Clone(keys)}
	var all [][]byte
	for _, k := range keys {
		all = append(all, k.derive("gossip"))
	}
	ring, err := memberlist.NewKeyring(all, all[0])
	if err != nil { // only for keys of a wrong length
		panic(err)
	}
	r.gossip = ring
	return r
}

// KeyInfo describes a key without revealing it.
type KeyInfo struct {
	ID      string // 8 hexadecimal digits
	Primary bool   // the one in use; the others are understood
}

// List returns the ring, the primary first.
func (r *Ring) List() []KeyInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]KeyInfo, 0, len(r.keys))
	for i, k := range r.keys {
		out = append(out, KeyInfo{ID: k.ID(), Primary: i == 0})
	}
	return out
}

// Primary returns the key in use.
func (r *Ring) Primary() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[0]
}

// snapshot returns all keys and a number that changes with them.
func (r *Ring) snapshot() ([]Key, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys), r.version
}

// Secret returns 32 bytes for a purpose from each key, the primary's first:
// send with the first, accept all.
func (r *Ring) Secret(purpose string) [][]byte {
	keys, _ := r.snapshot()
	var out [][]byte
	for _, k := range keys {
		out = append(out, k.derive("secret "+purpose))
	}
	return out
}

// Add makes the member understand a key. One that it has already is no error.
func (r *Ring) Add(k Key) error {
	if k.IsZero() {
		return fmt.Errorf("add cluster key: there is none")
	}
	return r.change("added", k.ID(), func() (bool, error) {
		switch {
		case slices.ContainsFunc(r.keys, k.Equal):
			return false, nil
		case len(r.keys) >= MaxKeys:
			return false, fmt.Errorf("add cluster key %s: there are %d already (remove one)", k.ID(), len(r.keys))
		}
		r.keys = append(r.keys, k)
		return true, r.gossip.AddKey(k.derive("gossip"))
	})
}

// Use makes a key of the ring the primary one.
func (r *Ring) Use(id string) error {
	return r.change("used", id, func() (bool, error) {
		i := r.find(id)
		switch {
		case i < 0:
			return false, r.unknown("use", id)
		case i == 0:
			return false, nil
		}
		k := r.keys[i]
		r.keys = slices.Insert(slices.Delete(slices.Clone(r.keys), i, i+1), 0, k)
		return true, r.gossip.UseKey(k.derive("gossip"))
	})
}

// Remove makes the member forget a key, which must not be the primary one.
func (r *Ring) Remove(id string) error {
	return r.change("removed", id, func() (bool, error) {
		i := r.find(id)
		switch {
		case i < 0:
			return false, r.unknown("remove", id)
		case i == 0:
			return false, fmt.Errorf("remove cluster key %s: it is the one in use (use another one first)", id)
		}
		k := r.keys[i]
		r.keys = slices.Delete(slices.Clone(r.keys), i, i+1)
		return true, r.forget(k)
	})
}

// forget removes a key from memberlist's ring. That shifts the keys behind it
// in a slice that packets are being decrypted with, so the key is moved to the
// end first, by using each of the others for a moment. The caller holds mu.
func (r *Ring) forget(k Key) error {
	for _, other := range slices.Backward(r.keys) {
		if err := r.gossip.UseKey(other.derive("gossip")); err != nil {
			return err
		}
	}
	return r.gossip.RemoveKey(k.derive("gossip"))
}

// find returns the index of a key, or -1. The caller holds mu.
func (r *Ring) find(id string) int {
	return slices.IndexFunc(r.keys, func(k Key) bool { return k.ID() == id })
}

func (r *Ring) unknown(what, id string) error {
	return fmt.Errorf("%s cluster key %.40q: this member does not have it (debughost keys list shows those it has)", what, id)
}

// change runs f under the lock, keeps the result, and tells the watcher.
func (r *Ring) change(what, id string, f func() (bool, error)) error {
	r.mu.Lock()
	did, err := f()
	if !did || err != nil {
		r.mu.Unlock()
		return err
	}
	r.version++
	if r.path != "" {
		if err = writeKeyFile(r.path, r.keys); err != nil {
			err = &KeyFileError{Path: r.path, Cause: err}
		}
	}
	watcher := r.changed
	r.mu.Unlock()
	if watcher != nil {
		watcher(what, id)
	}
	return err
}

// watch has f called after each change, by who made it.
func (r *Ring) watch(f func(what, id string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = f
}

// KeyFileError says that a changed ring is in force, and lost at the next start
// unless the operator writes the file.
type KeyFileError struct {
	Path  string
	Cause error
}

func (e *KeyFileError) Error() string {
	return fmt.Sprintf("keep cluster keys in %s: %v (the change is in force until this member restarts: write the file by hand, the key in use first)", e.Path, e.Cause)
}

func (e *KeyFileError) Unwrap() error { return e.Cause }
