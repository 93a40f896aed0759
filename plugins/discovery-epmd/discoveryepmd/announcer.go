package discoveryepmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/sdk"
)

// announcer keeps this member registered at this machine's EPMD, for the Watch
// that began last. All of the strategy's watches share one.
type announcer struct {
	client *epmd.Client

	mu   sync.Mutex // held while EPMD is asked: one registration at a time
	self *sdk.Self  // of the Watch that began last; nil when it has ended
	reg  *epmd.Registration
	at   epmd.Node // what reg says
}

// begin makes self the one to announce. The caller calls end with the same.
func (a *announcer) begin(self *sdk.Self) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.self = self
}

// end takes the registration back, unless another Watch has it.
func (a *announcer) end(self *sdk.Self) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.self == self {
		a.self = nil
		a.close()
	}
}

func (a *announcer) close() {
	if a.reg != nil {
		_ = a.reg.Close()
		a.reg = nil
	}
}

// sparePlaces is how many names a member tries to be registered under. A
// second one is needed while another process of this plugin takes over from
// this one, or this one says something new before it takes back the old.
const sparePlaces = 4

// keep registers the member unless it is registered. It is called again and
// again, for EPMD may have been restarted.
func (a *announcer) keep(ctx context.Context, self *sdk.Self) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.self != self {
		return nil // another Watch announces
	}
	if self.Addr == "" { // not known yet
		a.close()
		return nil
	}
	_, portText, err := net.SplitHostPort(self.Addr)
	if err != nil {
		return fmt.Errorf("use address %q: %w", self.Addr, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("use address %q: its port is not a number", self.Addr)
	}
	text, err := announcement{cluster: self.Cluster, member: self.Member, addr: self.Addr}.encode(self.Secrets)
	if err != nil {
		return err
	}
	if a.reg != nil && a.reg.Err() == nil && a.at.Port == port && string(a.at.Extra) == string(text) {
		return nil
	}
	for n := range sparePlaces {
		at := registration(*self, port, n, text)
		var reg *epmd.Registration
		if reg, err = a.client.Register(ctx, at); err == nil {
			a.close() // not before: others see this member all the time
			a.reg, a.at = reg, at
			return nil
		}
		if !errors.Is(err, epmd.ErrNameTaken) {
			break
		}
	}
	return err
}
