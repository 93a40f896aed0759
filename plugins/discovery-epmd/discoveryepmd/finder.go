package discoveryepmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/sdk"
)

// asksAtOnce bounds how many EPMDs are asked at a time.
const asksAtOnce = 32

// finder asks EPMDs and remembers what they said. Several watches share one.
type finder struct {
	config   Config
	client   *epmd.Client
	hostname string // this machine's, as os.Hostname has it
	local    string // the part after the @ for nodes of this machine
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	now      func() time.Time

	mu    sync.Mutex // held during list
	hosts map[string]*host
	file  hostsFile
}

// host is what is known of the nodes of one machine.
type host struct {
	known map[string]*entry // by the part before the @
	err   error             // of the last question
}

// entry is a name at an EPMD.
type entry struct {
	port   int
	missed time.Time // when EPMD was first found not to know it any more; zero while it does
}

func newFinder(c Config, client *epmd.Client) *finder {
	hostname, _ := os.Hostname()
	local := c.Host
	if local == "" {
		local = localHost(hostname, c.Names == "long")
	}
	return &finder{
		config: c, client: client, hostname: hostname, local: local,
		dial: (&net.Dialer{Timeout: c.Timeout}).DialContext,
		now:  time.Now, hosts: map[string]*host{}, file: hostsFile{path: c.HostsFile},
	}
}

// list is one round: it asks all EPMDs that matter at once and answers with
// all nodes, and with an error for those EPMDs whose last answer had to do.
func (f *finder) list(ctx context.Context) ([]sdk.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hosts, fileErr := f.toList()
	ask := append([]string{}, hosts...)
	for _, name := range f.config.Nodes {
		ask = append(ask, hostOf(name))
	}
	f.ask(ctx, ask)

	var nodes []sdk.Node
	seen := map[string]bool{}
	add := func(n sdk.Node) {
		if !seen[n.Name] && f.config.wanted(n.Name) {
			seen[n.Name] = true
			nodes = append(nodes, n)
		}
	}
	for _, name := range f.config.Nodes {
		add(f.byName(name))
	}
	for _, name := range slices.Sorted(maps.Keys(f.config.Addresses)) {
		alive, _, _ := strings.Cut(name, "@")
		add(sdk.Node{Name: name, Addr: f.config.Addresses[name], Metadata: map[string]string{sdk.MetadataAlive: alive}})
	}
	for _, h := range hosts {
		for alive, e := range f.hosts[h].known {
			add(f.found(h, alive, e))
		}
	}
	failures := f.failures(ask, func(h string) error { return f.hosts[h].err })
	if fileErr != nil {
		failures = append(failures, fileErr)
	}
	return nodes, summary(failures)
}

// toList are the machines whose nodes are all listed. "" is this one.
func (f *finder) toList() ([]string, error) {
	c := f.config
	switch {
	case c.Mode == "local", c.Mode == "auto" && len(c.Nodes) == 0 && len(c.Addresses) == 0 && len(c.Hosts) == 0 && c.HostsFile == "":
		return []string{""}, nil
	case len(c.Hosts) > 0 && c.HostsFile == "":
		return c.Hosts, nil
	case c.Mode == "hosts" || c.HostsFile != "":
		hosts, err := f.file.read()
		return append(append([]string{}, c.Hosts...), hosts...), err
	}
	return nil, nil
}

// ask brings what is known of the hosts up to date.
func (f *finder) ask(ctx context.Context, hosts []string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, asksAtOnce)
	asked := map[string]bool{}
	for _, name := range hosts {
		if asked[name] {
			continue
		}
		asked[name] = true
		h := f.hosts[name]
		if h == nil {
			h = &host{known: map[string]*entry{}}
			f.hosts[name] = h
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			names, err := f.names(ctx, name)
			if h.err = err; err == nil {
				f.update(ctx, name, h, names)
			}
		})
	}
}

func (f *finder) names(ctx context.Context, name string) ([]epmd.Name, error) {
	client, at := f.clientFor(name)
	return client.Names(ctx, at)
}

// clientFor is how to ask the EPMD of a machine of the config.
func (f *finder) clientFor(name string) (client epmd.Client, at string) {
	client = *f.client
	at, port := splitHost(name)
	if n, err := strconv.Atoi(port); err == nil {
		client.Port = n
	}
	return client, at
}

// update takes over an answer. A name that is gone from it stays while its
// port is open, for as long as the config says.
func (f *finder) update(ctx context.Context, name string, h *host, names []epmd.Name) {
	now := f.now()
	listed := make(map[string]bool, len(names))
	for _, n := range names {
		if (sdk.Node{Name: n.Name + "@" + f.local}).Validate() != nil {
			continue // anybody may register any bytes; it must not hide the others
		}
		listed[n.Name] = true
		h.known[n.Name] = &entry{port: n.Port}
	}
	for alive, e := range h.known {
		if listed[alive] {
			continue
		}
		if e.missed.IsZero() {
			e.missed = now
		}
		if now.Sub(e.missed) >= f.config.Linger || !f.open(ctx, f.addr(name, e.port)) {
			delete(h.known, alive)
		}
	}
}

// open tells whether something listens at an address.
func (f *finder) open(ctx context.Context, addr string) bool {
	conn, err := f.dial(ctx, "tcp", addr)
	if err != nil {
		return ctx.Err() != nil // not known
	}
	_ = conn.Close()
	return true
}

// found is a node that was found by asking for all nodes of a machine.
func (f *finder) found(name, alive string, e *entry) sdk.Node {
	at, _ := splitHost(name)
	if at == "" {
		at = f.local
	}
	return sdk.Node{Name: alive + "@" + at, Addr: f.addr(name, e.port), Metadata: map[string]string{
		sdk.MetadataAlive:       alive,
		sdk.MetadataHostUnknown: "true",
		sdk.MetadataEPMD:        f.epmdAddr(name),
	}}
}

// byName is a node that the config names.
func (f *finder) byName(name string) sdk.Node {
	at := hostOf(name)
	alive := strings.TrimSuffix(name, "@"+at)
	n := sdk.Node{Name: name, Metadata: map[string]string{sdk.MetadataAlive: alive, sdk.MetadataEPMD: f.epmdAddr(at)}}
	h := f.hosts[at]
	if e := h.known[alive]; e != nil {
		n.Addr = f.addr(at, e.port)
	} else if h.err == nil {
		n.Metadata[sdk.MetadataRegistered] = "false"
	}
	return n
}

// addr is where a node of a machine listens.
func (f *finder) addr(name string, port int) string {
	at, _ := splitHost(name)
	if f.isLocal(at) {
		at = "127.0.0.1"
	}
	return net.JoinHostPort(at, strconv.Itoa(port))
}

func (f *finder) epmdAddr(name string) string {
	at, port := splitHost(name)
	if f.isLocal(at) {
		at = "127.0.0.1"
	}
	if port == "" {
		port = strconv.Itoa(epmd.DefaultPort)
		if f.client.Port != 0 {
			port = strconv.Itoa(f.client.Port)
		}
	}
	return net.JoinHostPort(at, port)
}

// isLocal tells whether a host is this machine for certain, as package epmd
// does.
func (f *finder) isLocal(host string) bool {
	short, _, _ := strings.Cut(f.hostname, ".")
	return host == "" || strings.EqualFold(host, "localhost") || strings.EqualFold(host, f.hostname) || strings.EqualFold(host, short)
}

func hostOf(name string) string { return name[strings.LastIndexByte(name, '@')+1:] }

// failures are the errors of the machines that were asked, each once and in
// words that stay the same while the cause does.
func (f *finder) failures(asked []string, errOf func(host string) error) []error {
	var errs []error
	seen := map[string]bool{}
	for _, name := range asked {
		err := errOf(name)
		if seen[name] || err == nil {
			continue
		}
		seen[name] = true
		hint := fmt.Sprintf("does EPMD run on %s, and is its port the right one (epmd_port, ERL_EPMD_PORT)?", name)
		if name == "" {
			hint = "has a node with a name (erl -sname, iex --sname) been started on this machine? If EPMD uses another port, set ERL_EPMD_PORT or epmd_port"
		}
		errs = append(errs, sdk.WithHint(fmt.Errorf("ask EPMD at %s: %w", f.epmdAddr(name), stable(err)), hint))
	}
	return errs
}

// summary is one error of several: the first ones and the number of the rest.
func summary(errs []error) error {
	const most = 3
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	texts := make([]string, min(len(errs), most))
	for i := range texts {
		texts[i] = errs[i].Error()
	}
	text := strings.Join(texts, "; ")
	if left := len(errs) - most; left > 0 {
		text += fmt.Sprintf("; and %d more", left)
	}
	return sdk.WithHint(errors.New(text), sdk.Hint(errs[0]))
}

// stable strips the parts of a network error that change from one attempt to
// the next, such as the local port: a failure that lasts is told once.
func stable(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("look up %s: %s", dns.Name, dns.Err)
	case errors.As(err, &op) && op.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &op):
		return op.Err
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, epmd.ErrProtocol):
		return epmd.ErrProtocol
	}
	return err
}
