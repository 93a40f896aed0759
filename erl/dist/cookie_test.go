package dist

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCookieIsNeverPrinted(t *testing.T) {
	const secret = "XQWEZZYTOPSECRET"
	c := NewCookie(secret)
	type config struct {
		Open   Cookie
		hidden Cookie
		ptr    *Cookie
	}
	v := config{c, c, &c}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t"} {
		for _, x := range []any{c, &c, v, &v, []Cookie{c}, map[string]Cookie{"a": c}} {
			out := fmt.Sprintf(verb, x)
			assert.NotContains(t, out, secret, verb)
			assert.NotContains(t, strings.ToLower(out), fmt.Sprintf("%x", secret), verb)
		}
	}
	b, err := json.Marshal(v)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Open":"[cookie]"}`, string(b))
	assert.Equal(t, "[cookie]", c.String())
	assert.Equal(t, "[cookie]", fmt.Sprint(c))
	assert.Equal(t, "[cookie]", c.GoString())
}

func TestCookieProof(t *testing.T) {
	c := NewCookie("monster")
	// erlang:md5("monster" ++ integer_to_list(16#fffffffe)).
	sum := c.digest(0xfffffffe)
	assert.Equal(t, "ad91906975883382299bf48e25e8f5be", hex.EncodeToString(sum[:]))
	assert.True(t, c.proves(0xfffffffe, sum[:]))
	assert.False(t, c.proves(0xffffffff, sum[:]))
	assert.False(t, c.proves(0xfffffffe, sum[:15]))
	assert.False(t, NewCookie("monstera").proves(0xfffffffe, sum[:]))

	var none Cookie
	assert.True(t, none.IsZero())
	assert.True(t, NewCookie("").IsZero())
	sum = none.digest(1)
	assert.False(t, none.proves(1, sum[:]), "no cookie proves nothing")

	assert.True(t, c.Equal(NewCookie("monster")))
	assert.False(t, c.Equal(NewCookie("Monster")))
	assert.False(t, c.Equal(none))
	assert.True(t, none.Equal(Cookie{}))
}
