//go:build unix

package sandboxbeam

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/sdk"
)

// callTime bounds a call into a node whose caller has more time.
const callTime = time.Minute

// operations are what Operate does, by name: an operation's input and output are JSON.
var operations = map[string]func(s *Strategy, ctx context.Context, id string, input []byte) (any, error){}

// Operate implements sdk.Operator.
func (s *Strategy) Operate(ctx context.Context, id, operation string, input []byte) ([]byte, error) {
	op, ok := operations[operation]
	if !ok {
		return nil, fmt.Errorf("%w: %s has no operation %.50q (it has: %s)", sdk.ErrUnsupported, Name, operation,
			strings.Join(slices.Sorted(maps.Keys(operations)), ", "))
	}
	answer, err := op(s, ctx, id, input)
	if err != nil {
		return nil, fmt.Errorf("%s %.140s: %w", operation, id, err)
	}
	return json.Marshal(answer)
}

// input reads an operation's. What it does not know is an error.
func input[T any](raw []byte) (T, error) {
	var in T
	if len(bytes.TrimSpace(raw)) == 0 {
		return in, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return in, sdk.Invalid("input", err.Error())
	}
	return in, nil
}

// rpc calls a function in a sandbox's node, which must be up: one of the boot modules'.
// That of a node without the function, or whose function fails, is a *node.CallError.
func (s *Strategy) rpc(ctx context.Context, id, module, function string, args ...etf.Term) (etf.Term, error) {
	st, err := s.Inspect(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case st.Exit != nil:
		return nil, errors.New("it has ended")
	case st.Node == "":
		return nil, errors.New("its node is not up")
	}
	cookie, err := os.ReadFile(st.CookieFile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// The node's name is that of one run: an older connection is never used.
	peer, err := s.self.Connect(ctx, st.Node, node.DialOptions{Addr: st.Addr, Cookie: dist.NewCookie(string(cookie))})
	if err != nil {
		return nil, err
	}
	return peer.Call(ctx, module, function, args...)
}

// toReply reads {ok, Value}, {error, Text}, of which nothing has changed, and {torn, Text}.
func toReply(t etf.Term) (etf.Term, error) {
	if tuple, ok := t.(etf.Tuple); ok && len(tuple) == 2 {
		switch tuple[0] {
		case etf.Atom("ok"):
			return tuple[1], nil
		case etf.Atom("torn"):
			if text, ok := tuple[1].(etf.Binary); ok {
				return nil, fmt.Errorf("%w: %s", sdk.ErrUnsure, text)
			}
		case etf.Atom("error"):
			if text, ok := tuple[1].(etf.Binary); ok {
				return nil, errors.New(cmp.Or(string(text), "it does not say why"))
			}
		}
	}
	return nil, fmt.Errorf("the node answers %.200s", etf.Format(t, etf.PrintOptions{}))
}

// plain is a term as encoding/json has it: atoms and binaries are texts.
func plain(t etf.Term) any {
	switch t := t.(type) {
	case etf.Map:
		m := make(map[string]any, len(t))
		for _, p := range t {
			m[fmt.Sprint(plain(p.Key))] = plain(p.Value)
		}
		return m
	case etf.List:
		l := make([]any, len(t))
		for i := range t {
			l[i] = plain(t[i])
		}
		return l
	case etf.Binary:
		return strings.ToValidUTF8(string(t), "\uFFFD")
	case etf.Int:
		return int64(t)
	case etf.Atom:
		switch t {
		case "true", "false":
			return t == "true"
		case "null":
			return nil
		}
		return string(t)
	}
	return etf.Format(t, etf.PrintOptions{})
}
