// Command discovery-static finds the nodes that its config lists.
package main

import (
	"context"
	"github.com/debughost/debughost/sdk"
)

type static struct {
	Nodes []string `json:"nodes" doc:"full names of the nodes" required:"true"`
}

func (s *static) Describe() sdk.Info {
	return sdk.Info{Name: "discovery-static", Version: "1.0.0", Config: s}
}

func (s *static) Watch(_ context.Context, emit func(sdk.Answer) error) error {
	nodes := make([]sdk.Node, len(s.Nodes))
	for i, name := range s.Nodes {
		nodes[i].Name = name
	}
	return emit(sdk.Answer{Nodes: nodes})
}

func main() { sdk.Serve(new(static)) }
