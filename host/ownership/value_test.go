package ownership

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

func TestValues(t *testing.T) {
	info := target.Info{
		Node: "shop@db1", State: target.Refused, Reason: "wrong cookie", Hint: "give another", OTPRelease: "27", Owner: "a",
		Since: time.UnixMilli(1_700_000_000_123), Topologies: []string{"local", "prod"}, Creation: 3, Agent: "loaded",
	}
	got, err := decodeInfo(registry.Entry{Key: "target/shop@db1", Origin: "a", Value: encodeInfo(info)})
	require.NoError(t, err)
	require.Equal(t, info, got)

	long := target.Info{State: target.Gone, Reason: strings.Repeat("ü", 5000), Topologies: make([]string, 100)}
	value := encodeInfo(long)
	require.Less(t, len(value), 2000)
	got, err = decodeInfo(registry.Entry{Key: "target/x@y", Value: value})
	require.NoError(t, err)
	require.True(t, utf8.ValidString(got.Reason))
	require.True(t, strings.HasSuffix(got.Reason, "ü…"))
	require.Len(t, got.Topologies, 16)

	for _, bad := range []string{"", "null x", `{"state":1}`, `{"state":"asleep"}`, `{}`} {
		got, err = decodeInfo(registry.Entry{Key: "target/x@y", Origin: "b", Value: []byte(bad)})
		require.Error(t, err, bad)
		require.Equal(t, target.Info{Node: "x@y", Owner: "b"}, got)
	}
	seen := seenValue{Local: true, Failed: true, Failures: 2, Reason: "r", Since: 5}
	said, err := decodeSeen(registry.Entry{Value: encodeSeen(seen)})
	require.NoError(t, err)
	require.Equal(t, seen, said)
	_, err = decodeSeen(registry.Entry{Key: "seen/x@y", Origin: "b", Value: []byte("[]")})
	require.ErrorContains(t, err, "seen/x@y of b")
	_, err = decodeSeen(registry.Entry{Value: []byte(`{"since":5,"of a later version":[1]}`)})
	require.NoError(t, err)
}

func TestNodeOf(t *testing.T) {
	for key, want := range map[string]string{"seen/a@b": "a@b", "target/a@b": "a@b", "leader": "", "targets/x": ""} {
		node, ok := nodeOf(key)
		require.Equal(t, want != "", ok, key)
		if ok {
			require.Equal(t, want, node)
		}
	}
}

// FuzzValues has other members' values decode to something bounded that encodes
// to itself.
func FuzzValues(f *testing.F) {
	f.Add(encodeInfo(target.Info{State: target.Attached, Creation: 1}))
	f.Add(encodeSeen(seenValue{Local: true, Since: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if info, err := decodeInfo(registry.Entry{Key: targetPrefix + "n@h", Value: b}); err == nil {
			once := encodeInfo(info)
			again, err := decodeInfo(registry.Entry{Key: targetPrefix + "n@h", Value: once})
			if err != nil || string(encodeInfo(again)) != string(once) {
				t.Fatalf("%q becomes %q: %v", once, encodeInfo(again), err)
			}
		}
		if v, err := decodeSeen(registry.Entry{Value: b}); err == nil {
			if _, err := decodeSeen(registry.Entry{Value: encodeSeen(v)}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
