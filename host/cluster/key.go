package cluster

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	keySize  = 32
	redacted = "[cluster key]"
)

// Key is the secret that the members of a cluster share. It shows as
// "[cluster key]" in every way of printing: through the fmt verbs, as JSON or
// text, and as a field of a struct that is printed, also of an unexported one,
// which is why it holds a pointer. The zero Key is none.
type Key struct{ secret *[keySize]byte }

// NewKey makes a random key.
func NewKey() Key {
	k := Key{new([keySize]byte)}
	_, _ = rand.Read(k.secret[:]) // never fails
	return k
}

// ParseKey reads a key as Reveal writes it. No error contains any of text.
func ParseKey(text string) (Key, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != keySize {
		return Key{}, fmt.Errorf("parse cluster key: want %d bytes in base64", keySize)
	}
	return Key{(*[keySize]byte)(raw)}, nil
}

// Reveal returns the secret in base64, for a key file or for another member.
func (k Key) Reveal() string {
	if k.IsZero() {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.secret[:])
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.secret == nil }

// Equal reports whether both are the same secret, in constant time.
func (k Key) Equal(o Key) bool {
	if k.secret == nil || o.secret == nil {
		return k.secret == o.secret
	}
	return subtle.ConstantTimeCompare(k.secret[:], o.secret[:]) == 1
}

// ID is a name of the key that may be printed and sent: the first 8 hexadecimal
// digits of a hash.
func (k Key) ID() string {
	id := k.id()
	return hex.EncodeToString(id[:])
}

func (k Key) id() (out [4]byte) {
	copy(out[:], k.derive("key id"))
	return out
}

// derive returns 32 bytes that depend on the key and the purpose, and tell
// nothing about the key or what is derived for another purpose (HKDF with
// SHA-256, RFC 5869).
func (k Key) derive(purpose string) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, "debughost cluster 1 "+purpose, keySize)
	if err != nil { // the length is far below its limit
		panic(err)
	}
	return out
}

// String returns a placeholder.
func (Key) String() string { return redacted }

// GoString returns a placeholder.
func (Key) GoString() string { return redacted }

// Format writes a placeholder for every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder; encoding/json and other encoders use it.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MaxKeys bounds a ring.
const MaxKeys = 16

// ParseKeys reads a key file: one key a line, the primary first. Empty lines
// and those that begin with # are skipped. No error contains any of a key.
func ParseKeys(data []byte) ([]Key, error) {
	var keys []Key
	for i, line := range bytes.Split(data, []byte("\n")) {
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		k, err := ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: want %d bytes in base64, as debughost keygen writes them", i+1, keySize)
		}
		for _, old := range keys {
			if old.Equal(k) {
				return nil, fmt.Errorf("line %d: key %s is there twice", i+1, k.ID())
			}
		}
		if keys = append(keys, k); len(keys) > MaxKeys {
			return nil, fmt.Errorf("line %d: more than %d keys", i+1, MaxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

// FormatKeys writes a key file.
func FormatKeys(keys []Key) []byte {
	var b bytes.Buffer
	b.WriteString("# Cluster keys of debughost, the primary one first. Whoever has one can join.\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "# %s\n%s\n", k.ID(), k.Reveal())
	}
	return b.Bytes()
}
