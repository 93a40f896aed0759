package discoveryepmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

const (
	// maxPlaces bounds how many names of members one EPMD is asked for.
	maxPlaces = 512
	// placesAtOnce bounds how many are asked for at a time.
	placesAtOnce = 8
	// askAgain is when an announcement is read anew though its name and port
	// are the same: another life of the member may say something else.
	askAgain = 5 * time.Second
)

// members finds the members that are registered at EPMDs, and remembers them.
// All of the strategy's watches share one.
type members struct {
	*finder
	mu     sync.Mutex // held during list
	places map[string]map[string]*place
	errs   map[string]error // of the last question, by host
}

// place is a registration of a member at an EPMD.
type place struct {
	announcement
	ok     bool // it is one
	port   int
	asked  time.Time // when EPMD told what it says; zero: not yet
	missed time.Time // when EPMD was first found not to know it any more; zero while it does
}

func newMembers(f *finder) *members {
	return &members{finder: f, places: map[string]map[string]*place{}, errs: map[string]error{}}
}

// list is one round: all members but the one that asks, and an error for those
// EPMDs whose last answer had to do.
func (m *members) list(ctx context.Context, self sdk.Self) ([]sdk.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hosts, fileErr := m.toList()
	listed := map[string]bool{} // those whose members are all listed
	for _, h := range hosts {
		listed[h] = true
	}
	asked := slices.Clone(hosts)
	for _, name := range m.config.Nodes {
		asked = append(asked, hostOf(name))
	}
	m.askAll(ctx, asked)

	var nodes []sdk.Node
	seen := map[string]bool{}
	addrs, _ := net.InterfaceAddrs()
	for _, h := range unique(asked) {
		for _, p := range inOrder(m.places[h]) {
			switch {
			case !p.ok, p.cluster != self.Cluster, p.member == self.Member && p.addr == self.Addr, seen[p.member]:
			case !p.provenBy(self.Secrets):
			case !listed[h] && !slices.Contains(m.config.Nodes, p.member+"@"+h):
			case !listing.Wanted(m.config.Include, m.config.Exclude, p.member):
			default:
				seen[p.member] = true
				nodes = append(nodes, m.node(h, p, addrs))
			}
		}
	}
	failures := m.failures(asked, func(h string) error { return m.errs[h] })
	if fileErr != nil {
		failures = append(failures, fileErr)
	}
	return nodes, summary(failures)
}

// inOrder are the places by name, those that EPMD has forgotten last.
func inOrder(places map[string]*place) []*place {
	var sorted []*place
	for _, alive := range slices.Sorted(maps.Keys(places)) {
		sorted = append(sorted, places[alive])
	}
	slices.SortStableFunc(sorted, func(a, b *place) int { return a.missed.Compare(b.missed) })
	return sorted
}

func unique(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// node is a member as the host gets it.
func (m *members) node(host string, p *place, addrs []net.Addr) sdk.Node {
	at, _ := splitHost(host)
	here := m.isLocal(at)
	if ip, err := netip.ParseAddr(at); err == nil {
		here = listing.Here(ip, addrs)
	}
	return sdk.Node{
		Name: p.member, Addr: listing.Reach(p.addr, at, here), Role: sdk.RoleMember,
		Metadata: map[string]string{sdk.MetadataEPMD: m.epmdAddr(host)},
	}
}

// askAll brings what is known of the hosts up to date.
func (m *members) askAll(ctx context.Context, hosts []string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, asksAtOnce)
	errs := make([]error, len(hosts))
	hosts = unique(hosts)
	for i, h := range hosts {
		if m.places[h] == nil {
			m.places[h] = map[string]*place{}
		}
		places := m.places[h]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = m.askOne(ctx, h, places)
		})
	}
	wg.Wait()
	for i, h := range hosts {
		m.errs[h] = errs[i]
	}
}

// askOne lists the members' names at one EPMD and reads what those say that
// are new. On an error the places stay what they were.
func (m *members) askOne(ctx context.Context, host string, places map[string]*place) error {
	names, err := m.names(ctx, host)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n epmd.Name) bool { return !listing.Own(n.Name) })
	slices.SortFunc(names, func(a, b epmd.Name) int { return cmp.Compare(a.Name, b.Name) })
	names = names[:min(len(names), maxPlaces)]

	now := m.now()
	here := make(map[string]bool, len(names))
	fresh := make([]*place, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, placesAtOnce)
	for i, n := range names {
		here[n.Name] = true
		if p := places[n.Name]; p != nil && p.port == n.Port && p.missed.IsZero() && now.Sub(p.asked) < askAgain {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			fresh[i], errs[i] = m.read(ctx, host, n, now)
		})
	}
	wg.Wait()
	for i, n := range names {
		switch {
		case fresh[i] != nil:
			places[n.Name] = fresh[i]
		case errors.Is(errs[i], epmd.ErrNotRegistered): // it went in between
			here[n.Name] = false
		case errs[i] != nil:
			err = errs[i]
		}
	}
	for alive, p := range places {
		if here[alive] {
			continue
		}
		if p.missed.IsZero() {
			p.missed = now
		}
		// A member's port is not tried, as a node's is: that would be a
		// broken connection to report there.
		if now.Sub(p.missed) >= m.config.Linger {
			delete(places, alive)
		}
	}
	return err
}

// read asks what one registration says.
func (m *members) read(ctx context.Context, host string, n epmd.Name, now time.Time) (*place, error) {
	client, at := m.clientFor(host)
	node, err := client.Lookup(ctx, at, n.Name)
	if err != nil {
		return nil, err
	}
	p := &place{port: n.Port, asked: now}
	a, err := parseAnnouncement(node.Extra)
	p.announcement, p.ok = a, err == nil
	return p, nil
}

// watchMembers announces this member and finds the others, until ctx ends.
func (s *Strategy) watchMembers(ctx context.Context, self sdk.Self, emit func(sdk.Answer) error) error {
	s.announcer.begin(&self)
	defer s.announcer.end(&self)
	return sdk.Poll(ctx, s.config.PollInterval, 0, emit, func(ctx context.Context) ([]sdk.Node, error) {
		announceErr := s.announcer.keep(ctx, &self)
		nodes, err := s.members.list(ctx, self)
		switch {
		case announceErr == nil:
			return nodes, err
		case err == nil:
			return nodes, explain(announceErr)
		case strings.HasSuffix(err.Error(), stable(announceErr).Error()):
			return nodes, err // for the same reason
		}
		return nodes, summary([]error{explain(announceErr), err})
	})
}

// explain is an error of the announcer for a person.
func explain(err error) error {
	hint := cmp.Or(sdk.Hint(err), "does EPMD run on this machine? Until it does others do not find this member here; it finds them")
	return sdk.WithHint(fmt.Errorf("announce this member: %w", stable(err)), hint)
}
