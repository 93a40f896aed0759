// Package discoveryepmd is the strategy discovery-epmd: it finds BEAM nodes by
// asking EPMD, the port mapper that every machine with BEAM nodes runs. It does
// the work of three strategies of libcluster:
//
//	LocalEpmd   without config: all nodes of this machine
//	Epmd        nodes = ["shop@db1", "shop@db2"]: these nodes
//	ErlangHosts hosts = ["db1", "db2"], or mode = "hosts" for the hosts of a
//	            .hosts.erlang file: all nodes of these machines
//
// Nodes without EPMD are named with their addresses, and listed as they are.
//
// Among members (finds = "members") it enters this one at this machine's EPMD,
// under a name that begins with debughost and with the address of its gossip in
// the field that EPMD keeps for extras, and finds those of the same cluster at
// the same EPMDs. Such a name is never a target's.
//
// Else it only asks EPMD. It connects to no node, but for one thing: a node that
// EPMD has forgotten is dropped when nothing listens at its port any more, or
// after a while. EPMD forgets everything when it is restarted, and nodes need
// two seconds to register again; nobody should be detached for that.
package discoveryepmd

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

// Name is the plugin's.
const Name = "discovery-epmd"

// Config is the plugin's section.
type Config struct {
	Mode         string            `json:"mode" enum:"auto,local,nodes,hosts" doc:"local finds all nodes of this machine, nodes those of the list nodes, hosts all nodes of the machines in the list hosts or in a .hosts.erlang file; auto takes nodes, addresses and hosts where those are set, and else local"`
	Nodes        []string          `json:"nodes" doc:"full names of nodes, such as shop@db1; they are always listed, also while they are down"`
	Hosts        []string          `json:"hosts" doc:"machines whose nodes are all listed: names or addresses, where needed with the port of EPMD, such as db1:4370"`
	Addresses    map[string]string `json:"addresses" doc:"nodes whose EPMD is not asked: by full name the host:port at which they listen, such as 10.0.0.1:9001; an empty one leaves it to debughost to ask the node's EPMD when it attaches, as through a jump host that only debughost knows of"`
	HostsFile    string            `json:"hosts_file" doc:"file with one 'host'. a line, read anew when it changes; empty means .hosts.erlang of the working directory, the home directory, or the root of the OTP installation, in this order"`
	PollInterval time.Duration     `json:"poll_interval" min:"50ms" doc:"time between two questions"`
	Timeout      time.Duration     `json:"timeout" min:"10ms" doc:"time that one EPMD may take to answer"`
	Linger       time.Duration     `json:"linger" min:"0s" doc:"how long a node stays listed that EPMD does not know any more but whose port is still open; nodes register again some seconds after EPMD was restarted"`
	EPMDPort     int               `json:"epmd_port" min:"0" max:"65535" doc:"port of EPMD on all machines; 0 means ERL_EPMD_PORT, or 4369"`
	Names        string            `json:"names" enum:"auto,short,long" doc:"whether the nodes of this machine have short host names (erl -sname) or long ones (erl -name); EPMD does not tell, and debughost finds out when it connects; auto is short"`
	Host         string            `json:"host" doc:"the part after the @ of the names of this machine's nodes, such as 127.0.0.1; empty means by names"`
	Include      []string          `json:"include" doc:"patterns with * and ? of the nodes to list, such as shop_* or *@db1; without an @ they are for the part before it; empty means all"`
	Exclude      []string          `json:"exclude" doc:"patterns of nodes not to list"`
}

// Strategy implements sdk.Discovery.
type Strategy struct {
	version string
	config  Config
	finder  *finder
	members *members

	announcer announcer
}

var (
	_ sdk.Discovery  = (*Strategy)(nil)
	_ sdk.Configured = (*Strategy)(nil)
)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, config: Config{
		Mode:         "auto",
		PollInterval: 500 * time.Millisecond,
		Timeout:      2 * time.Second,
		Linger:       10 * time.Second,
		Names:        "auto",
	}}
}

// Describe implements sdk.Strategy.
func (s *Strategy) Describe() sdk.Info {
	return sdk.Info{Name: Name, Version: s.version, Config: &s.config}
}

// Configured implements sdk.Configured.
func (s *Strategy) Configured(context.Context) error {
	if err := s.config.check(); err != nil {
		return err
	}
	client, err := epmd.FromEnv(os.Getenv)
	if err != nil {
		return sdk.WithHint(err, "this comes from debughost's environment")
	}
	if s.config.EPMDPort != 0 {
		client.Port = s.config.EPMDPort
	}
	client.Timeout = s.config.Timeout
	s.finder = newFinder(s.config, client)
	s.members = newMembers(s.finder)
	s.announcer.client = client
	return nil
}

// Watch implements sdk.Discovery.
func (s *Strategy) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	self, _ := sdk.SelfFrom(ctx)
	switch self.Finds {
	case sdk.RoleTarget, "":
	case sdk.RoleMember:
		return s.watchMembers(ctx, self, emit)
	default:
		return fmt.Errorf("find nodes of the role %q: this strategy knows targets and members", self.Finds)
	}
	// EPMD's own timeout bounds each question, and all are asked at once.
	return sdk.Poll(ctx, s.config.PollInterval, 0, emit, s.finder.list)
}

// check finds what the schema cannot say.
func (c Config) check() error {
	var e sdk.ConfigError
	add := func(path, message string) { e.Problems = append(e.Problems, sdk.Problem{Path: path, Message: message}) }
	if c.Mode == "nodes" && len(c.Nodes)+len(c.Addresses) == 0 {
		add("nodes", `mode is "nodes", and this list is empty`)
	}
	if len(c.Nodes) > 0 && c.Mode != "nodes" && c.Mode != "auto" {
		add("nodes", fmt.Sprintf("has no effect with mode %q", c.Mode))
	}
	if c.Mode != "hosts" && c.Mode != "auto" {
		if len(c.Hosts) > 0 {
			add("hosts", fmt.Sprintf("has no effect with mode %q", c.Mode))
		}
		if c.HostsFile != "" {
			add("hosts_file", fmt.Sprintf("has no effect with mode %q", c.Mode))
		}
	}
	for i, name := range c.Nodes {
		at := "nodes[" + strconv.Itoa(i) + "]"
		switch err := (sdk.Node{Name: name}).Validate(); {
		case err != nil:
			add(at, err.Error())
		case listing.Own(name):
			add(at, "nodes whose names begin with debughost are debughost's own")
		case slices.Index(c.Nodes, name) < i:
			add(at, name+" is there twice")
		}
	}
	for name, addr := range c.Addresses {
		at := "addresses." + strconv.Quote(name)
		switch err := (sdk.Node{Name: name, Addr: addr}).Validate(); {
		case err != nil:
			add(at, err.Error())
		case listing.Own(name):
			add(at, "nodes whose names begin with debughost are debughost's own")
		case slices.Contains(c.Nodes, name):
			add(at, name+" is in nodes, too")
		case addr != "":
			_, port, _ := net.SplitHostPort(addr) // it was validated
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				add(at, fmt.Sprintf("%q has no valid port", addr))
			}
		}
	}
	for i, host := range c.Hosts {
		if err := checkHost(host); err != nil {
			add("hosts["+strconv.Itoa(i)+"]", err.Error())
		}
	}
	if c.Host != "" && (sdk.Node{Name: "x@" + c.Host}).Validate() != nil {
		add("host", fmt.Sprintf("%q cannot follow an @", c.Host))
	}
	for key, patterns := range map[string][]string{"include": c.Include, "exclude": c.Exclude} {
		for i, p := range patterns {
			if err := listing.CheckPattern(p); err != nil {
				add(key+"["+strconv.Itoa(i)+"]", err.Error())
			}
		}
	}
	if len(e.Problems) == 0 {
		return nil
	}
	slices.SortFunc(e.Problems, func(a, b sdk.Problem) int { return strings.Compare(a.Path, b.Path) })
	return &e
}

// checkHost accepts a host name or an address, with or without a port.
func checkHost(host string) error {
	h, port := splitHost(host)
	if (sdk.Node{Name: "x@" + h}).Validate() != nil || strings.ContainsAny(h, "/[]") {
		return fmt.Errorf("%q is not a host", host)
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535) {
		return fmt.Errorf("%q has no valid port", host)
	}
	return nil
}

// splitHost parts a host from a port, which may be missing.
func splitHost(s string) (host, port string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return h, p
	}
	return s, ""
}

// wanted applies include and exclude to a full name.
func (c Config) wanted(name string) bool {
	return !listing.Own(name) && listing.Wanted(c.Include, c.Exclude, name)
}
