package dist

import (
	"crypto/md5"
	"crypto/subtle"
	"fmt"
	"io"
	"strconv"
)

// redacted is what a cookie looks like wherever it could be printed.
const redacted = "[cookie]"

// Cookie is the secret that two nodes share. It proves itself only through a
// digest and shows as "[cookie]" in every way of printing: through the fmt
// verbs, as JSON or text, and as a field of a struct that is printed, also of
// an unexported one, which is why it holds a pointer. The zero Cookie is no
// cookie; it never authenticates anybody.
type Cookie struct{ secret *string }

// NewCookie returns the cookie s, which is taken as it is: whoever reads a
// cookie file cuts its line end.
func NewCookie(s string) Cookie {
	if s == "" {
		return Cookie{}
	}
	return Cookie{&s}
}

// IsZero reports whether there is no cookie.
func (c Cookie) IsZero() bool { return c.secret == nil }

// Equal reports whether both are the same secret, in constant time.
func (c Cookie) Equal(o Cookie) bool {
	if c.secret == nil || o.secret == nil {
		return c.secret == o.secret
	}
	return subtle.ConstantTimeCompare([]byte(*c.secret), []byte(*o.secret)) == 1
}

// String returns a placeholder.
func (Cookie) String() string { return redacted }

// GoString returns a placeholder.
func (Cookie) GoString() string { return redacted }

// Format writes a placeholder for every verb.
func (Cookie) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder; encoding/json and other encoders use it.
func (Cookie) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// digest is the proof of the cookie for a challenge: MD5 of the cookie and the
// challenge in decimal (gen_digest in the protocol's description).
func (c Cookie) digest(challenge uint32) [md5.Size]byte {
	var secret string
	if c.secret != nil {
		secret = *c.secret
	}
	return md5.Sum(strconv.AppendUint([]byte(secret), uint64(challenge), 10))
}

// proves reports, in constant time, whether sum is the digest for challenge.
func (c Cookie) proves(challenge uint32, sum []byte) bool {
	want := c.digest(challenge)
	return c.secret != nil && subtle.ConstantTimeCompare(want[:], sum) == 1
}
