package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// portJSON is a port or socket in JSON; its keys are a contract.
type portJSON struct {
	Node       string            `json:"node"`
	Port       string            `json:"port"`
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Owner      string            `json:"owner"`
	OwnerName  string            `json:"owner_name"`
	Input      uint64            `json:"input"`
	Output     uint64            `json:"output"`
	QueueSize  uint64            `json:"queue_size"`
	Memory     uint64            `json:"memory"`
	OSPid      uint64            `json:"os_pid"`
	Local      string            `json:"local"`
	Peer       string            `json:"peer"`
	Protocol   string            `json:"protocol"`
	State      []string          `json:"state"`
	Statistics map[string]uint64 `json:"statistics"`
}

func (a *app) portsCommand() *cobra.Command {
	req := &controlpb.ListPortsRequest{}
	cmd := &cobra.Command{
		Use:   "ports [NODE…]",
		Short: "Show ports and sockets: whose they are, their peers, bytes and queues",
		Long: `Show the ports of nodes, and the sockets of OTP's module socket, those with the most
bytes or the longest queue first.

input is what came from outside, output what went there, queue_size what waits to be
written. kind is tcp, udp, sctp, socket, program (of another OS process) or driver.`,
		Example: `  debughost ports shop@db1
  debughost ports --sort queue --limit 10
  debughost ports -o json | jq '.ports[] | select(.peer | startswith("10.0.0.7:"))'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			req.Nodes, req.Timeout = nodes, a.targetTimeout()
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error { return a.ports(ctx, c, req) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Sort, "sort", "bytes", "bytes (input and output), queue or memory")
	fl.Uint32Var(&req.Limit, "limit", 100, "ports of each node, 0 for 10000")
	complete(cmd, "sort", "bytes", "queue", "memory")
	return cmd
}

func (a *app) ports(ctx context.Context, c *control.Client, req *controlpb.ListPortsRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Resources.ListPorts(ctx, req)
	if err != nil {
		return err
	}
	l := listing[portJSON]{
		plural: "ports", errors: res.GetErrors(), answered: len(res.GetTotals()), note: "there are no ports",
		header: []string{"node", "port", "name", "kind", "owner", "owner_name", "input", "output", "queue_size", "memory", "os_pid", "local", "peer", "protocol", "state"},
		csv: func(p portJSON) []string {
			return []string{p.Node, p.Port, p.Name, p.Kind, p.Owner, p.OwnerName, decimal(p.Input), decimal(p.Output), decimal(p.QueueSize),
				decimal(p.Memory), decimal(p.OSPid), p.Local, p.Peer, p.Protocol, strings.Join(p.State, " ")}
		},
		grid: []column{
			{name: "node", least: 12, dull: true}, {name: "port"}, {name: "kind"}, {name: "input", right: true}, {name: "output", right: true},
			{name: "queue_size", right: true, dull: true}, {name: "owner", spare: 1}, {name: "owner_name", least: 12}, {name: "where", least: 20},
		},
		cells: func(p portJSON) []string {
			return []string{p.Node, p.Port, p.Kind, size(p.Input), size(p.Output), decimal(p.QueueSize), p.Owner, short(p.OwnerName), portWhere(p)}
		},
	}
	shown := map[string]uint64{}
	for _, p := range res.GetPorts() {
		shown[p.GetNode()]++
		statistics := p.GetStatistics()
		if statistics == nil {
			statistics = map[string]uint64{}
		}
		l.rows = append(l.rows, portJSON{
			Node: p.GetNode(), Port: p.GetPort(), Name: p.GetName(), Kind: p.GetKind(), Owner: p.GetOwner(), OwnerName: p.GetOwnerName(),
			Input: p.GetInput(), Output: p.GetOutput(), QueueSize: p.GetQueueSize(), Memory: p.GetMemory(), OSPid: p.GetOsPid(),
			Local: p.GetLocal(), Peer: p.GetPeer(), Protocol: p.GetProtocol(), State: append([]string{}, p.GetState()...), Statistics: statistics,
		})
	}
	slices.SortStableFunc(l.rows, func(a, b portJSON) int {
		switch req.GetSort() {
		case "queue":
			return cmp.Compare(b.QueueSize, a.QueueSize)
		case "memory":
			return cmp.Compare(b.Memory, a.Memory)
		}
		return cmp.Compare(b.Input+b.Output, a.Input+a.Output)
	})
	err = printListing(a, l)
	a.noteTotals("ports", res.GetTotals(), shown)
	return err
}

// portWhere is what a person looks for: the two ends of a connection, or what a
// port was opened with.
func portWhere(p portJSON) string {
	switch {
	case p.Peer != "":
		return p.Local + " to " + p.Peer
	case p.Local != "":
		return p.Local
	case p.Kind == "program":
		return p.Name + " (OS pid " + decimal(p.OSPid) + ")"
	}
	return p.Name
}
