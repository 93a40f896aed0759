package node

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/debughost/debughost/erl/etf"
)

func TestIdents(t *testing.T) {
	g := &idents{node: "a@b", creation: 7}
	rapid.Check(t, func(t *rapid.T) {
		num := rapid.Uint64Max(1<<47-1).Draw(t, "pid")
		got, ok := g.pidNumber(g.pid(num))
		require.True(t, ok)
		require.Equal(t, num, got)

		num = rapid.Uint64().Draw(t, "ref")
		got, ok = g.refNumber(g.refOf(num))
		require.True(t, ok)
		require.Equal(t, num, got)
	})
	for _, p := range []etf.Pid{
		{}, {Node: "a@b", ID: 2, Creation: 8}, {Node: "a@c", ID: 2, Creation: 7}, {Node: "a@b", ID: 1 << 15, Creation: 7},
	} {
		_, ok := g.pidNumber(p)
		require.False(t, ok, "%v", p)
	}
	good, _ := g.ref()
	for _, change := range []func(r *etf.Ref){
		func(r *etf.Ref) { r.Node = "x@y" },
		func(r *etf.Ref) { r.Creation++ },
		func(r *etf.Ref) { r.Len = 5 },
		func(r *etf.Ref) { r.Words[0] = 1 << 18 },
		func(r *etf.Ref) { r.Words[2] = 1 << 14 },
	} {
		r := good
		change(&r)
		_, ok := g.refNumber(r)
		require.False(t, ok, "%v", r)
	}
	require.NotEqual(t, g.mailboxPid(), g.callPid())
}
