package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsAreNotPrinted(t *testing.T) {
	s := Self{Member: "a", Secrets: []Secret{NewSecret([]byte("hunter2")), {}}}
	hidden := struct{ self Self }{s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, value := range []any{s, &s, hidden, s.Secrets, s.Secrets[0]} {
			out := fmt.Sprintf(verb, value)
			require.NotContains(t, out, "hunter2")
			require.NotContains(t, out, fmt.Sprintf("%x", "hunter2"))
			require.NotContains(t, out, "104 117 110")
		}
		require.Equal(t, "[secret]", fmt.Sprintf(verb, s.Secrets[0]))
	}
	out, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(out), `["[secret]","[secret]"]`)
	require.Equal(t, "[secret]", s.Secrets[0].String())
	require.Equal(t, "[secret]", s.Secrets[0].GoString())
	require.Equal(t, "hunter2", string(s.Secrets[0].Bytes()))
	require.Empty(t, Secret{}.Bytes())
}

func TestSelfEqual(t *testing.T) {
	base := func() Self {
		return Self{Member: "a", Addr: "h:1", Cluster: "c", Finds: RoleMember, Secrets: []Secret{NewSecret([]byte("x"))}, Incarnation: 1}
	}
	require.True(t, base().Equal(base()))
	for what, change := range map[string]func(*Self){
		"member":      func(s *Self) { s.Member = "b" },
		"address":     func(s *Self) { s.Addr = "h:2" },
		"cluster":     func(s *Self) { s.Cluster = "d" },
		"finds":       func(s *Self) { s.Finds = RoleTarget },
		"secret":      func(s *Self) { s.Secrets[0] = NewSecret([]byte("y")) },
		"secrets":     func(s *Self) { s.Secrets = append(s.Secrets, NewSecret([]byte("y"))) },
		"incarnation": func(s *Self) { s.Incarnation = 2 },
	} {
		other := base()
		change(&other)
		require.False(t, base().Equal(other), what)
	}
}

// What a context holds does not change under a Watch.
func TestSelfOfAContext(t *testing.T) {
	_, ok := SelfFrom(context.Background())
	require.False(t, ok)
	s := Self{Member: "a", Secrets: []Secret{NewSecret([]byte("x"))}}
	ctx := WithSelf(context.Background(), s)
	s.Secrets[0] = NewSecret([]byte("y"))
	got, ok := SelfFrom(ctx)
	require.True(t, ok)
	require.Equal(t, "x", string(got.Secrets[0].Bytes()))
}
