package target_test

import (
	"encoding/json"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/host/target"
)

func TestJSON(t *testing.T) {
	t.Parallel()
	o := etf.PrintOptions{Syntax: etf.Elixir, MaxDepth: 4, MaxBytes: 100, Node: "a@b"}
	for _, c := range []struct {
		term etf.Term
		want string
	}{
		{etf.Int(-5), "-5"},
		{etf.BigInt{Int: new(big.Int).Lsh(big.NewInt(1), 80)}, "1208925819614629174706176"},
		{etf.Float(1.5), "1.5"},
		{etf.Float(1e300), "1e+300"},
		{etf.Atom("true"), "true"},
		{etf.Atom("nil"), "null"},
		{etf.Atom("undefined"), `"undefined"`},
		{etf.Binary("hé\x00\u2028"), `"hé\u0000\u2028"`},
		{etf.Binary("\xff"), `"<<255>>"`},
		{etf.String("text\n"), `"text\n"`},
		{etf.String("\x01\x02"), "[1,2]"},
		{etf.List{}, "[]"},
		{etf.Tuple{etf.Atom("ok"), etf.List{etf.Int(1)}}, `["ok",[1]]`},
		{etf.Map{}, "{}"},
		{etf.Map{{Key: etf.Atom("a"), Value: etf.Int(1)}, {Key: etf.Binary("a"), Value: etf.Int(2)}, {Key: etf.Int(3), Value: etf.Int(4)}, {Key: etf.Binary("\xff"), Value: etf.Int(5)}}, `{"a":1,"\"a\"":2,"3":4,"<<255>>":5}`},
		{etf.ImproperList{Elems: []etf.Term{etf.Int(1)}, Tail: etf.Int(2)}, `"[1 | 2]"`},
		{etf.Pid{Node: "a@b", ID: 12}, `"#PID<0.12.0>"`},
		{etf.Tuple{etf.Tuple{etf.Tuple{etf.Tuple{etf.Atom("deep")}}}}, `[[[["deep"]]]]`},
		{etf.Tuple{etf.Tuple{etf.Tuple{etf.Tuple{etf.Tuple{etf.Atom("deep")}}}}}, `[[[["{:deep}"]]]]`},
	} {
		got := target.JSON(c.term, o)
		assert.Equal(t, c.want, got)
		assert.True(t, json.Valid([]byte(got)), got)
	}
}
