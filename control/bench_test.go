package control

import (
	"context"
	"fmt"
	"testing"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/target"
)

// BenchmarkListProcesses100k is what the API adds to a whole table: encode,
// socket, decode.
func BenchmarkListProcesses100k(b *testing.B) {
	const n = 100_000
	rows := make([]target.Process, n)
	for i := range rows {
		rows[i] = target.Process{
			Node: "shop@db1", Pid: fmt.Sprintf("<0.%d.0>", i), Memory: uint64(i) * 100, Reductions: uint64(i) * 7,
			CurrentFunction: "gen_server:loop/7", InitialCall: "Elixir.Shop.Worker:init/1", Status: "waiting",
		}
	}
	e := &fakeEngine{processes: func(_ context.Context, _ target.ProcessQuery, s target.Sink) error { return s.Rows(rows) }}
	c := serve(b, e, Options{}).dial(b)
	b.ReportAllocs()
	for b.Loop() {
		stream, err := c.Processes.ListProcesses(context.Background(), &controlpb.ListProcessesRequest{})
		if err != nil {
			b.Fatal(err)
		}
		got := 0
		for {
			res, err := stream.Recv()
			if err != nil {
				b.Fatal(err)
			}
			got += len(res.GetRows().GetProcesses())
			if res.GetEnd() != nil {
				break
			}
		}
		if got != n {
			b.Fatalf("got %d rows", got)
		}
	}
}

func BenchmarkUnary(b *testing.B) {
	c := serve(b, &fakeEngine{}, Options{}).dial(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Member.GetVersion(context.Background(), &controlpb.GetVersionRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// A question that the asked member answers, and one that it passes on.
func BenchmarkInspect(b *testing.B) {
	c := newTestCluster(b, "a", "b")
	c.own("a", "here@h")
	c.own("b", "there@h")
	for _, m := range c.members {
		inspects(m)
	}
	client := c.members["a"].dial(b)
	for _, node := range []string{"here@h", "there@h"} {
		b.Run(node[:len(node)-2], func(b *testing.B) {
			for b.Loop() {
				if _, err := client.Processes.InspectProcess(context.Background(), &controlpb.InspectProcessRequest{Node: node, Process: "p"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
