package dist_test

import (
	"testing"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/erl/etf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forReleases runs f with a node of each release.
func forReleases(t *testing.T, o erltest.Options, f func(t *testing.T, b *erltest.Beam)) {
	for _, r := range releases {
		t.Run("OTP"+r, func(t *testing.T) {
			o := o
			o.OTP = r
			b := erltest.Start(t, o)
			b.LoadModule(t, "erltest_eval", evalModule)
			f(t, b)
		})
	}
}

func TestDialRealNode(t *testing.T) {
	forReleases(t, erltest.Options{}, func(t *testing.T, b *erltest.Beam) {
		for name, flags := range map[string]dist.Flags{
			"default":               0,
			"neither":               dist.DefaultFlags &^ (dist.FlagFragments | dist.FlagDistHdrAtomCache),
			"atom cache":            dist.DefaultFlags&^dist.FlagFragments | dist.FlagDistHdrAtomCache,
			"fragments":             dist.DefaultFlags&^dist.FlagDistHdrAtomCache | dist.FlagFragments,
			"fragments, atom cache": dist.DefaultFlags | dist.FlagDistHdrAtomCache | dist.FlagFragments,
		} {
			t.Run(name, func(t *testing.T) {
				l := dial(t, b, dist.Config{Flags: flags})
				assert.Equal(t, b.Name, l.Peer().Name)
				assert.NotZero(t, l.Peer().Creation)
				l.eval(t, "{hello, 'wörld', [node(Self), 1.5, #{a => <<1,2>>}]}")
				m := l.next(t)
				require.Equal(t, dist.OpSendSender, m.Op)
				require.Equal(t, l.self, m.To)
				require.Equal(t, etf.Atom(b.Name), m.From.Node)
				got, err := m.Payload.Term()
				require.NoError(t, err)
				want := etf.Tuple{etf.Atom("hello"), etf.Atom("wörld"), etf.List{l.self.Node, etf.Float(1.5),
					etf.Map{{Key: etf.Atom("a"), Value: etf.Binary{1, 2}}}}}
				assert.Equal(t, want, got)

				assert.Equal(t, "["+string(l.self.Node)+"]", b.MustEval(t, "nodes(hidden)"))
				require.NoError(t, l.Shutdown(t.Context()))
				assert.ErrorIs(t, <-l.ran, dist.ErrClosed)
			})
		}
	})
}
