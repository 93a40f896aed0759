// Package discoverygossip is the strategy discovery-gossip: it finds nodes by
// the heartbeats that they send over UDP to all who listen.
//
// Among members (finds = "members") it sends heartbeats and hears those of the
// others, by multicast, by broadcast, or to a list of peers. They are proven
// with a secret that the members share, and none is taken twice; heartbeat.go
// has the packet. Who is new says hello and is answered at once.
//
// Among targets it hears the heartbeats of BEAM nodes that use libcluster's
// strategy Gossip, plain and encrypted, and never sends a byte: debughost is no
// member of the user's cluster. libcluster.go has that packet.
//
// What cannot be read or proven is counted, and told of once a minute at most.
// A node that is not heard for a while is listed no more; whether it lives is
// for others to find out.
package discoverygossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
	"github.com/hashicorp/go-hclog"
)

// Name is the plugin's.
const Name = "discovery-gossip"

const (
	targetsPort   = 45892 // libcluster's
	membersPort   = 45893
	defaultGroup  = "233.252.1.32" // libcluster's
	everybody     = "255.255.255.255"
	retryInterval = time.Second // of sockets that cannot be opened
)

// Config is the plugin's section.
type Config struct {
	Port          int           `json:"port" min:"0" max:"65535" doc:"UDP port; 0 means 45892, which is libcluster's, to find targets, and 45893 to find members"`
	IfAddr        string        `json:"if_addr" doc:"with peers: the address to listen at, empty means all; else the address of the interface to use, unless multicast_if says"`
	MulticastIf   string        `json:"multicast_if" doc:"interface to use, by name or address; empty means to send by the one that the system would choose, or by all if it knows none, and to listen at all"`
	MulticastAddr string        `json:"multicast_addr" doc:"group to send to and to listen at; with broadcast_only, the broadcast address; empty means 233.252.1.32 or 255.255.255.255"`
	MulticastTTL  int           `json:"multicast_ttl" min:"0" max:"255" doc:"how many routers a heartbeat may pass; 1 keeps it on the local network"`
	BroadcastOnly bool          `json:"broadcast_only" doc:"use broadcast in place of multicast"`
	Peers         []string      `json:"peers" doc:"send to these alone, in place of multicast: names or addresses, where needed with a port, such as db1:45893; for members"`
	Interval      time.Duration `json:"interval" min:"100ms" max:"1h" doc:"a heartbeat is sent at a random moment of each interval; for members"`
	Expiry        time.Duration `json:"expiry" min:"1s" doc:"how long a node stays listed that is not heard"`
	Settle        time.Duration `json:"settle" min:"0s" doc:"how long to listen before the answer is that there are no targets; libcluster's nodes send every five seconds at least"`
	SecretFile    string        `json:"secret_file" doc:"file with the secret of libcluster's config, if it has one; for targets"`
	Include       []string      `json:"include" doc:"patterns with * and ? of the nodes to list, such as shop_* or *@db1; without an @ they are for the part before it; empty means all"`
	Exclude       []string      `json:"exclude" doc:"patterns of nodes not to list"`
}

// Strategy implements sdk.Discovery.
type Strategy struct {
	version string
	config  Config
	log     hclog.Logger

	targets, members *board
	targetsRefused   refused
	membersRefused   refused
	replays          replays // only for the reader of the session, of which there is one at a time
	sent             atomic.Int64
	others           sync.Once // another cluster was heard

	mu   sync.Mutex
	turn *turn // the Watch that listens
}

var (
	_ sdk.Discovery  = (*Strategy)(nil)
	_ sdk.Configured = (*Strategy)(nil)
)

// New is the strategy with its defaults. An empty version is the build's own.
func New(version string) sdk.Strategy {
	return &Strategy{version: version, log: sdk.Logger(), config: Config{
		MulticastTTL: 1,
		Interval:     2 * time.Second,
		Expiry:       time.Minute,
		Settle:       6 * time.Second,
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
	s.targets, s.members = newBoard(s.config.Expiry), newBoard(s.config.Expiry)
	return nil
}

// check finds what the schema cannot say.
func (c Config) check() error {
	var e sdk.ConfigError
	add := func(path, message string) { e.Problems = append(e.Problems, sdk.Problem{Path: path, Message: message}) }
	if addr, err := netip.ParseAddr(c.MulticastAddr); c.MulticastAddr != "" && (err != nil || !addr.Is4()) {
		add("multicast_addr", fmt.Sprintf("%q is not an IPv4 address", c.MulticastAddr))
	} else if c.MulticastAddr != "" && !c.BroadcastOnly && !addr.IsMulticast() {
		add("multicast_addr", fmt.Sprintf("%s is not a multicast address (224.0.0.0 to 239.255.255.255)", addr))
	}
	if addr, err := netip.ParseAddr(c.IfAddr); c.IfAddr != "" && (err != nil || len(c.Peers) == 0 && !addr.Is4()) {
		add("if_addr", fmt.Sprintf("%q is not an address", c.IfAddr))
	}
	if len(c.Peers) > 0 {
		for key, set := range map[string]bool{"multicast_if": c.MulticastIf != "", "multicast_addr": c.MulticastAddr != "", "broadcast_only": c.BroadcastOnly} {
			if set {
				add(key, "has no effect with peers")
			}
		}
	}
	for i, p := range c.Peers {
		if err := listing.CheckAddr(withPort(p, membersPort)); err != nil {
			add("peers["+strconv.Itoa(i)+"]", err.Error())
		}
	}
	for key, patterns := range map[string][]string{"include": c.Include, "exclude": c.Exclude} {
		for i, p := range patterns {
			if err := listing.CheckPattern(p); err != nil {
				add(key+"["+strconv.Itoa(i)+"]", err.Error())
			}
		}
	}
	if c.Expiry < 2*c.Interval {
		add("expiry", fmt.Sprintf("must be two intervals (%s) at least", 2*c.Interval))
	}
	if len(e.Problems) == 0 {
		return nil
	}
	slices.SortFunc(e.Problems, func(a, b sdk.Problem) int { return strings.Compare(a.Path, b.Path) })
	return &e
}

// port is where to send to and to listen.
func (c Config) port(usual int) uint16 {
	if c.Port != 0 {
		return uint16(c.Port)
	}
	return uint16(usual)
}

// to is the address of many.
func (c Config) to(usualPort int) netip.AddrPort {
	addr := c.MulticastAddr
	switch {
	case addr == "" && c.BroadcastOnly:
		addr = everybody
	case addr == "":
		addr = defaultGroup
	}
	return netip.AddrPortFrom(netip.MustParseAddr(addr), c.port(usualPort))
}

// wantedIf is the interface that the config names.
func (c Config) wantedIf() string {
	if c.MulticastIf == "" && c.IfAddr != "0.0.0.0" {
		return c.IfAddr
	}
	return c.MulticastIf
}

// Watch implements sdk.Discovery. Of several watches the one that began last
// listens, and all tell what is heard.
func (s *Strategy) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	self, _ := sdk.SelfFrom(ctx)
	b, session := s.targets, s.listenForTargets
	switch self.Finds {
	case sdk.RoleTarget, "":
		if len(s.config.Peers) > 0 {
			return errors.New("peers is for members (finds = \"members\"): targets are heard, and never spoken to")
		}
	case sdk.RoleMember:
		if err := s.checkSelf(self); err != nil {
			return err
		}
		b, session = s.members, func(ctx context.Context) error { return s.gossip(ctx, self) }
	default:
		return fmt.Errorf("find nodes of the role %q: this strategy knows targets and members", self.Finds)
	}
	mine, end := s.begin(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		defer end()
		keep(mine, b, session)
	})
	defer listening.Wait()
	defer mine.cancel()
	return b.follow(ctx, emit)
}

func (s *Strategy) checkSelf(self sdk.Self) error {
	switch {
	case s.config.SecretFile != "":
		return errors.New("secret_file is for targets (finds = \"targets\"): members have the cluster's key")
	case len(self.Secrets) == 0:
		return sdk.WithHint(errors.New("there is no secret to prove heartbeats with"), "does this member have a cluster key?")
	case self.Addr == "": // not known yet
		return nil
	}
	if err := checkMember(self.Member, self.Addr); err != nil {
		return fmt.Errorf("announce this member: %w", err)
	}
	return nil
}

// turn is the right to listen, and to send.
type turn struct {
	context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// begin takes the turn from the Watch that has it and waits until that has let
// go of its sockets. The caller calls end when it has let go of its own.
func (s *Strategy) begin(ctx context.Context) (mine *turn, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	mine = &turn{ctx, cancel, make(chan struct{})}
	s.mu.Lock()
	before := s.turn
	s.turn = mine
	s.mu.Unlock()
	if before != nil {
		before.cancel()
		<-before.ended
	}
	return mine, func() { close(mine.ended) }
}

// keep runs one session after the other: one that returns nil wants another at
// once.
func keep(ctx context.Context, b *board, session func(context.Context) error) {
	for ctx.Err() == nil {
		err := session(ctx)
		if ctx.Err() != nil || err == nil {
			continue
		}
		b.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// withPort adds a port to a host that has none.
func withPort(host string, port uint16) string {
	if _, err := netip.ParseAddr(host); err == nil && strings.Contains(host, ":") { // IPv6
		return netip.AddrPortFrom(netip.MustParseAddr(host), port).String()
	}
	if strings.Contains(host, ":") {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}
