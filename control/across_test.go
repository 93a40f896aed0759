package control

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// fakeQuestions answers for the nodes that are asked about with the name of the
// member. Nodes that begin with bad fail.
type fakeQuestions struct {
	Questions // what no test asks
	m         *testMember
}

func (f fakeQuestions) Names(ctx context.Context, q target.NamesQuery, out target.Answers[target.Names]) {
	for _, n := range q.Nodes {
		if n[:3] == "bad" {
			out.Failed(target.NodeError{Node: n, Err: target.ErrTimeout})
			continue
		}
		out.Answer(n, target.Names{Total: 2, Names: []target.Name{{Name: f.m.name + q.Filter, Kind: "process"}, {Name: "last"}}})
	}
}

func nameTexts(res *controlpb.ListNamesResponse) []string {
	var out []string
	for _, n := range res.GetNames() {
		out = append(out, n.GetNode()+" "+n.GetName())
	}
	return out
}

// One question to the nodes of three members has one answer, in the order of
// nodes, and an error for each that has none.
func TestAcrossMembers(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("a", "n2@h")
	c.own("b", "n1@h", "bad@h")
	c.own("c", "n3@h")
	client := c.members["a"].dial(t)
	res, err := client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{Filter: "!"})
	require.NoError(t, err)
	assert.Equal(t, []string{"n1@h b!", "n1@h last", "n2@h a!", "n2@h last", "n3@h c!", "n3@h last"}, nameTexts(res))
	require.Len(t, res.GetErrors(), 1)
	assert.Equal(t, "bad@h", res.GetErrors()[0].GetNode())
	assert.Equal(t, string(Timeout), res.GetErrors()[0].GetCode())
	assert.Len(t, res.GetTotals(), 3)

	res, err = client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{Nodes: []string{"n3@h", "n3@h", "none@h"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"n3@h c", "n3@h last"}, nameTexts(res))
	require.Len(t, res.GetErrors(), 1)
	assert.Equal(t, string(UnknownNode), res.GetErrors()[0].GetCode())

	// A question that is wrong is so for all.
	_, err = client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{Limit: 1 << 30})
	requireCode(t, err, BadRequest)
	_, err = client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{Nodes: []string{""}})
	assert.Error(t, err)
}

// A member that is lost costs its nodes an error, or its successor answers.
func TestAcrossMembersThatAreLost(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	c.own("b", "n1@h")
	c.own("c", "n2@h")
	client := c.members["a"].dial(t)
	c.kill("b")
	c.own("c", "n1@h")
	res, err := client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{})
	require.NoError(t, err)
	assert.Equal(t, []string{"n1@h c", "n1@h last", "n2@h c", "n2@h last"}, nameTexts(res))

	c.members["a"].server.forward.patience = 20 * time.Millisecond
	c.kill("c")
	res, err = client.Nodes.ListNames(t.Context(), &controlpb.ListNamesRequest{})
	require.NoError(t, err)
	assert.Empty(t, res.GetNames())
	var failed []string
	for _, e := range res.GetErrors() {
		failed = append(failed, fmt.Sprint(e.GetNode(), " ", e.GetCode()))
	}
	assert.ElementsMatch(t, []string{"n1@h unreachable_member", "n2@h unreachable_member"}, failed)
}
