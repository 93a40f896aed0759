package target

import (
	"cmp"
	"context"
	_ "embed" // a companion's source and compiled module
	"errors"
	"fmt"
	"slices"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

//go:embed agent/ports.erl
var portsSource []byte

//go:embed agent/ports.beam
var portsBeam []byte

var portsModule = newCompanion("ports", portsSource, portsBeam)

// MaxPorts bounds the ports of one target in one answer.
const MaxPorts = 10_000

// What ports are ranked by, highest first.
const (
	PortsByBytes  = "bytes" // input and output
	PortsByQueue  = "queue"
	PortsByMemory = "memory"
)

// PortsQuery asks for ports and sockets.
type PortsQuery struct {
	Ask
	Sort  string // PortsByBytes (default), PortsByQueue, PortsByMemory
	Limit int    // ports of each target; default and at most MaxPorts
}

// Port is a port, or a socket of OTP's module socket.
type Port struct {
	Port       string // #Port<0.6>, #Socket<0.1.2.3>
	Name       string // what it was opened with: tcp_inet, a command, a driver; at most 1024 characters
	Kind       string // tcp, udp, sctp, socket, program, driver
	Owner      string // <0.123.0>
	OwnerName  string // its registered name, else its initial call as mod:fun/arity
	Input      uint64 // bytes from outside
	Output     uint64 // bytes to outside
	QueueSize  uint64 // bytes that wait to be written
	Memory     uint64 // bytes
	OSPid      uint64 // of the program; 0 for none
	Protocol   string // tcp, udp, sctp, local; empty where it is no network's
	Local      string // 127.0.0.1:4369, [::1]:80, a path
	Peer       string
	State      []string // connected, listen, …
	Statistics []Statistic
}

// Statistic is a counter by OTP's name, such as recv_oct or write_byte.
type Statistic struct {
	Name  string
	Value uint64
}

// Ports are some or all ports of a target, in the order asked for.
type Ports struct {
	Ports []Port
	Total int // more than len(Ports) where the limit cut them
}

// Ports tells the ports and sockets of targets.
func (m *Manager) Ports(ctx context.Context, q PortsQuery, out Answers[Ports]) {
	if q.Limit <= 0 || q.Limit > MaxPorts {
		q.Limit = MaxPorts
	}
	if q.Sort == "" {
		q.Sort = PortsByBytes
	}
	each(ctx, m, q.Ask, 0, out, func(ctx context.Context, t *target, link *node.Peer) (Ports, error) {
		reply, err := t.companionWalk(ctx, link, portsModule, "ports", etf.Map{
			{Key: etf.Atom("sort"), Value: etf.Atom(q.Sort)},
			{Key: etf.Atom("limit"), Value: etf.Int(t.most(q.Limit))},
			{Key: etf.Atom("share"), Value: etf.Int(t.m.budget().Share)},
		})
		if errors.Is(err, errNoAgent) {
			return t.plainPorts(ctx, link, q)
		}
		if err != nil {
			return Ports{}, err
		}
		total, rows, err := totalled(link, "list ports", reply, 14)
		if err != nil {
			return Ports{}, err
		}
		out := Ports{Total: total, Ports: make([]Port, len(rows))}
		owners := t.newOwners()
		for i, r := range rows {
			out.Ports[i] = portRow(r)
			owners.add(r[3], &out.Ports[i].OwnerName)
		}
		return out, owners.resolve(ctx, link)
	})
}

// portRow reads {Port | Id, Name, Kind, Owner, Input, Output, Queue, Memory,
// OsPid, Protocol, Local, Peer, [State], [{Counter, N}]}.
func portRow(r etf.Tuple) Port {
	p := Port{
		Port: cmp.Or(identifier(r[0]), text(r[0])), Name: text(r[1]), Kind: atom(r[2]), Owner: identifier(r[3]),
		Input: count(r[4]), Output: count(r[5]), QueueSize: count(r[6]), Memory: count(r[7]), OSPid: count(r[8]),
		Local: text(r[10]), Peer: text(r[11]), State: atoms(r[12]),
	}
	if protocol := atom(r[9]); protocol != "none" {
		p.Protocol = protocol
	}
	for _, c := range tuples(r[13]) {
		p.Statistics = append(p.Statistics, Statistic{atom(c[0]), count(c[1])})
	}
	slices.Sort(p.State)
	slices.SortFunc(p.Statistics, func(a, b Statistic) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

// plainPorts does without the helper: ports alone, without their queues, memory
// and addresses.
func (t *target) plainPorts(ctx context.Context, link *node.Peer, q PortsQuery) (Ports, error) {
	all, err := t.call(ctx, link, "erlang", "ports")
	if err != nil {
		return Ports{}, err
	}
	reply, err := t.call(ctx, link, "lists", "map", etf.Export{Module: "erlang", Function: "port_info", Arity: 1}, all)
	if err != nil {
		return Ports{}, err
	}
	ids, okIDs := etf.Elements(all)
	infos, ok := etf.Elements(reply)
	if !ok || !okIDs || len(ids) != len(infos) {
		return Ports{}, fmt.Errorf("list ports of %s: got %s", link.Name(), printed(reply))
	}
	type row struct {
		Port
		owner etf.Term
	}
	var rows []row
	for i, info := range infos {
		p := pairs(info)
		if p["name"] == nil {
			continue // closed meanwhile
		}
		name := text(p["name"])
		port := Port{Port: identifier(ids[i]), Name: name, Owner: identifier(p["connected"]),
			Input: count(p["input"]), Output: count(p["output"]), OSPid: count(p["os_pid"])}
		port.Kind, port.Protocol = portKind(name, port.OSPid)
		rows = append(rows, row{port, p["connected"]})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(b.Input+b.Output, a.Input+a.Output) })
	out := Ports{Total: len(rows)}
	rows = rows[:min(len(rows), t.most(q.Limit))]
	out.Ports = make([]Port, len(rows))
	owners := t.newOwners()
	for i, r := range rows {
		out.Ports[i] = r.Port
		owners.add(r.owner, &out.Ports[i].OwnerName)
	}
	return out, owners.resolve(ctx, link)
}

func portKind(name string, osPid uint64) (kind, protocol string) {
	switch name {
	case "tcp_inet":
		return "tcp", "tcp"
	case "udp_inet":
		return "udp", "udp"
	case "sctp_inet":
		return "sctp", "sctp"
	}
	if osPid > 0 {
		return "program", ""
	}
	return "driver", ""
}
