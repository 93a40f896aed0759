package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/host/config"
)

// lookUpTime bounds one look at a name or an EPMD.
const lookUpTime = 3 * time.Second

// hostname looks whether this machine knows its own name. EPMD and local nodes
// are reached by loopback anyway, so that it is no failure.
func (e *examination) hostname(ctx context.Context) {
	if e.Hostname == "" {
		return
	}
	kind := "short: nodes with long names (-name) are called otherwise"
	if strings.Contains(e.Hostname, ".") {
		kind = "long"
	}
	if addrs, err := lookUp(ctx, e.Hostname); err != nil {
		e.add("host name", Warn, "add it to /etc/hosts; nodes here that are called …@"+e.Hostname+" cannot find each other either",
			"%s (%s) does not resolve: %s", e.Hostname, kind, reason(err))
	} else {
		e.ok("host name", "%s (%s) resolves to %s", e.Hostname, kind, strings.Join(addrs, ", "))
	}
	if e.cfg != nil && e.cfg.Node.Names == "long" && !strings.Contains(e.Hostname, ".") && !strings.Contains(e.cfg.Node.Name, "@") {
		e.add("node name", Warn, "give the host a name with a domain, or set node.name to name@host",
			"node.names is long and the host's name has no dot: debughost calls itself …@127.0.0.1")
	}
}

func lookUp(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, host)
}

// reason is a resolver's error without what the reader knows.
func reason(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Err
	}
	return err.Error()
}

// cookies reads each cookie that the configuration names, as an attempt to
// attach would.
func (e *examination) cookies(context.Context) {
	if e.cfg == nil {
		return
	}
	const hint = "copy the nodes' cookie there (mode 0400, owned by who runs debughost), or set [targets] cookie_file"
	for _, rule := range e.cfg.Targets.Cookies {
		one := config.Targets{CookieFile: rule.File}
		e.cookie("cookie "+rule.Nodes, &one, hint)
	}
	if targets := slices.ContainsFunc(e.cfg.Topologies, func(t config.Topology) bool { return t.Finds == config.FindsTargets }); targets {
		rest := config.Targets{CookieFile: e.cfg.Targets.CookieFile}
		e.cookie("cookie", &rest, hint)
	}
}

func (e *examination) cookie(name string, t *config.Targets, hint string) {
	path, _, err := t.FindCookie("any@any")
	if err != nil {
		e.fail(name, err, hint)
		return
	}
	mode := ""
	if info, err := os.Stat(path); err == nil {
		mode = fmt.Sprintf(", mode %04o", info.Mode().Perm())
	}
	e.ok(name, "%s%s", path, mode)
}

// epmdSection is what is read of the configuration of discovery-epmd: whom it
// asks. The rest is the plugin's own business.
type epmdSection struct {
	Mode      string
	Nodes     []string
	Hosts     []string
	HostsFile string `json:"hosts_file"`
	Addresses map[string]string
	EPMDPort  int `json:"epmd_port"`
}

// portMappers asks this machine's EPMD, and those that discovery-epmd is to ask.
func (e *examination) portMappers(ctx context.Context) {
	client, err := epmd.FromEnv(e.Getenv)
	if err != nil {
		e.fail("epmd", err, "unset it, or give it a right value")
		return
	}
	client.Timeout = lookUpTime
	e.epmd = client
	asked := map[string]bool{}
	ask := func(host string, port int) {
		if key := net.JoinHostPort(host, strconv.Itoa(port)); !asked[key] {
			asked[key] = true
			e.portMapper(ctx, host, port)
		}
	}
	if e.cfg == nil {
		ask("", 0)
		return
	}
	for _, t := range e.cfg.Topologies {
		var s epmdSection
		if t.Strategy != "discovery-epmd" || json.Unmarshal(t.Config, &s) != nil {
			continue
		}
		hosts := slices.Clone(s.Hosts)
		for _, name := range s.Nodes {
			_, host, _ := strings.Cut(name, "@")
			hosts = append(hosts, host)
		}
		if len(hosts)+len(s.Addresses) == 0 && s.HostsFile == "" && s.Mode != "hosts" {
			hosts = []string{""}
		}
		for _, h := range hosts {
			host, port, err := net.SplitHostPort(h)
			if n, convErr := strconv.Atoi(port); err == nil && convErr == nil {
				ask(host, n)
			} else {
				ask(h, s.EPMDPort)
			}
		}
	}
}

// maxShown bounds how many names a line shows.
const maxShown = 8

func (e *examination) portMapper(ctx context.Context, host string, port int) {
	client := *e.epmd
	client.Port = cmp.Or(port, client.Port, epmd.DefaultPort)
	name, where := strings.TrimSpace("epmd "+host), cmp.Or(host, "this machine")
	names, err := client.Names(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.add(name, Fail, "the part of a node's name behind the @ must resolve here, as it does on the node's machine",
			"%s does not resolve: %s", host, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED) && host == "":
		e.add(name, Warn, "start a node with a name (erl -sname, iex --sname); if EPMD uses another port, set ERL_EPMD_PORT",
			"no EPMD runs on this machine at port %d: no node is there to be found", client.Port)
	case err != nil:
		e.add(name, Fail, fmt.Sprintf("does EPMD run there, and does a firewall let port %d through?", client.Port), "%v", err)
	case len(names) == 0:
		e.add(name, Warn, "nodes that were started with -sname or -name enter themselves", "EPMD of %s at port %d knows no node", where, client.Port)
	default:
		e.ok(name, "EPMD of %s at port %d knows %s", where, client.Port, list(names))
	}
}

// list shows names and their ports.
func list(names []epmd.Name) string {
	slices.SortFunc(names, func(a, b epmd.Name) int { return strings.Compare(a.Name, b.Name) })
	var out []string
	for _, n := range names[:min(len(names), maxShown)] {
		out = append(out, fmt.Sprintf("%s (port %d)", n.Name, n.Port))
	}
	if more := len(names) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}
