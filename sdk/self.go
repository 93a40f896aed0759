package sdk

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
)

// Self is what debughost tells a discovery strategy of itself. A strategy that
// finds members announces it; one that finds BEAM nodes needs none of it and
// has only Finds.
type Self struct {
	// Member is its name in its cluster.
	Member string
	// Addr is the host:port at which other members reach it. It is empty until
	// it is known: there is nothing to announce before.
	Addr string
	// Cluster is the label of its cluster. Members of another one are not to
	// be listed.
	Cluster string
	// Finds is what the topology is to find. The zero value is RoleTarget.
	Finds Role
	// Secrets prove to other members that this is one. All members share them,
	// and no other strategy has them; they are not the cluster's key, and tell
	// nothing about it. Prove with the first and accept any: while keys are
	// changed there are several.
	Secrets []Secret
	// Incarnation grows with each start of the member, not with each start of
	// the plugin.
	Incarnation uint64
}

// Equal reports whether both say the same.
func (s Self) Equal(o Self) bool {
	return s.Member == o.Member && s.Addr == o.Addr && s.Cluster == o.Cluster && s.Finds == o.Finds &&
		s.Incarnation == o.Incarnation && slices.EqualFunc(s.Secrets, o.Secrets, Secret.Equal)
}

type selfKey struct{}

// WithSelf returns a context that tells a Watch about the debughost that
// watches. The host and tests use it.
func WithSelf(ctx context.Context, s Self) context.Context {
	s.Secrets = slices.Clone(s.Secrets)
	return context.WithValue(ctx, selfKey{}, s)
}

// SelfFrom returns what the context of a Watch tells about the debughost that
// watches; false means nothing, for that debughost is older than Self. When it
// changes the Watch is cancelled and another begins, so that what it says
// holds for as long as a Watch runs. The next Watch may begin before the one
// before it has returned.
func SelfFrom(ctx context.Context) (Self, bool) {
	s, ok := ctx.Value(selfKey{}).(Self)
	return s, ok
}

// redacted is what a secret looks like wherever it could be printed.
const redacted = "[secret]"

// Secret shows as "[secret]" in every way of printing: through the fmt verbs,
// as JSON or text, and as a field of a struct that is printed, also of an
// unexported one, which is why it holds a pointer.
type Secret struct{ bytes *string }

// NewSecret returns the secret that b is. The zero Secret is that of no bytes.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	s := string(b)
	return Secret{&s}
}

// Bytes is the secret, for use as a key. The slice is the caller's.
func (s Secret) Bytes() []byte {
	if s.bytes == nil {
		return nil
	}
	return []byte(*s.bytes)
}

// Equal reports whether both are the same, in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), o.Bytes()) == 1
}

// String returns a placeholder.
func (Secret) String() string { return redacted }

// GoString returns a placeholder.
func (Secret) GoString() string { return redacted }

// Format writes a placeholder for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns a placeholder; encoding/json and other encoders use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
