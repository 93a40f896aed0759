package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// graphNodeJSON is a process in a graph in JSON; its keys are a contract.
type graphNodeJSON struct {
	ID              string `json:"id"`
	Kind            string `json:"kind"`
	Pid             string `json:"pid"`
	Node            string `json:"node"`
	RegisteredName  string `json:"registered_name"`
	InitialCall     string `json:"initial_call"`
	Label           string `json:"label"`
	Step            int32  `json:"step"`
	Memory          uint64 `json:"memory"`
	MessageQueueLen uint64 `json:"message_queue_len"`
}

type graphEdgeJSON struct {
	From string `json:"from"`
	To   string `json:"to"`
	Kind string `json:"kind"`
}

// graph is inspect --graph.
func (a *app) graph(ctx context.Context, c *control.Client, req *controlpb.GetGraphRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Depth.GetGraph(ctx, req)
	if err != nil {
		return err
	}
	if a.output != asJSON {
		return a.printGraph(res, req)
	}
	nodes, edges := []graphNodeJSON{}, []graphEdgeJSON{}
	for _, n := range res.GetNodes() {
		r := n.GetRef()
		at := r.GetNode()
		if at == "" {
			at = res.GetNode()
		}
		nodes = append(nodes, graphNodeJSON{
			n.GetId(), r.GetKind(), r.GetPid(), at, r.GetRegisteredName(), r.GetInitialCall(), n.GetLabel(), n.GetStep(), n.GetMemory(), n.GetMessageQueueLen(),
		})
	}
	for _, e := range res.GetEdges() {
		edges = append(edges, graphEdgeJSON{e.GetFrom(), e.GetTo(), e.GetKind()})
	}
	return writeJSON(a.out, map[string]any{"nodes": nodes, "edges": edges, "left_out": res.GetLeftOut()})
}

// printGraph writes each process that was looked at, and below it what it is tied
// to.
func (a *app) printGraph(res *controlpb.GetGraphResponse, req *controlpb.GetGraphRequest) error {
	w := bufio.NewWriter(a.out)
	by := map[string]*controlpb.GraphNode{}
	for _, n := range res.GetNodes() {
		by[n.GetId()] = n
	}
	ties := map[string][]string{}
	for _, e := range res.GetEdges() {
		to, from := sane(graphText(by[e.GetTo()])), sane(graphText(by[e.GetFrom()]))
		if e.GetKind() == "link" {
			ties[e.GetFrom()] = append(ties[e.GetFrom()], "──── "+to)
			ties[e.GetTo()] = append(ties[e.GetTo()], "──── "+from)
			continue
		}
		ties[e.GetFrom()] = append(ties[e.GetFrom()], "───> "+to)
		ties[e.GetTo()] = append(ties[e.GetTo()], "<─── "+from)
	}
	for _, n := range res.GetNodes() {
		if n.GetStep() < 0 || n.GetStep() >= int32(max(1, req.GetDepth())) {
			continue
		}
		about := []string{size(n.GetMemory())}
		if n.GetMessageQueueLen() > 0 {
			about = append(about, fmt.Sprintf("%d messages", n.GetMessageQueueLen()))
		}
		fmt.Fprintf(w, "%s  %s\n", sane(graphText(n)), strings.Join(about, ", "))
		for _, tie := range ties[n.GetId()] {
			fmt.Fprintf(w, "  %s\n", tie)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if res.GetLeftOut() > 0 {
		a.note("%d links and monitors are not shown", res.GetLeftOut())
	}
	return nil
}

// graphText is <0.1.2> My.Worker (gen_server:init_it/6) "label".
func graphText(n *controlpb.GraphNode) string {
	s := refText(n.GetRef())
	if n.GetLabel() != "" {
		s += " " + n.GetLabel()
	}
	return s
}
