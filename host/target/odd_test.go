package target_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/target"
)

// What OTP lets a host and a process be called, a question can name. (Of the
// part before the @ OTP takes letters, digits, - and _ only.)
func TestOddNodeAndProcessNames(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		b := erltest.Start(t, erltest.Options{OTP: otp, Host: "h'\u00e9\"x"})
		r := attach(t, nil, b)
		names := []string{"with space", `it's "quoted"`, "na\u00efve", "\u65e5\u672c", "a/b?c=d&e", "Elixir.Shop.\u00dcn\u00ef", "tab\tline\n"}
		for _, name := range names {
			atom := `[`
			for i, r := range []rune(name) {
				if i > 0 {
					atom += ","
				}
				atom += "$\\x{" + hex(r) + "}"
			}
			atom += `]`
			b.MustEval(t, "register(list_to_atom("+atom+"), spawn(fun() -> receive stop -> ok end end))")
			p, err := r.Inspect(t.Context(), target.InspectQuery{Node: b.Name, Process: name})
			require.NoError(t, err, name)
			assert.Equal(t, name, p.RegisteredName)
			listed := r.ps(t, target.ProcessQuery{Nodes: []string{b.Name}, Sort: "memory", Limit: 2, Filter: name})
			require.Len(t, listed.all, 1, name)
			killed, err := r.Kill(t.Context(), target.KillQuery{Node: b.Name, Process: name})
			require.NoError(t, err, name)
			assert.Equal(t, p.Pid, killed.Pid)
		}
	})
}

func hex(r rune) string { return strconv.FormatInt(int64(r), 16) }
