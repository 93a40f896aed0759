package target

import (
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/node"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/reach"
)

// Found is one node that a strategy named.
type Found struct {
	Node string // full name, shop@db1
	Addr string // host:port of its distribution listener; empty means ask EPMD
	// Guessed says that the part of Node behind the @ is the strategy's guess
	// (EPMD tells only the part before it). The target then takes the name that
	// the node gives itself in the handshake.
	Guessed bool

	// Sandbox is the id of the child of this member whose node it is; empty for what
	// a topology names. Such a node is dialled at Addr with the cookie in CookieFile,
	// whatever the configuration says of names, and gone as soon as it is not named.
	Sandbox    string
	CookieFile string
}

// SandboxTopology begins the name under which a sandbox's node is listed; the
// child's id follows. No topology can be called so.
const SandboxTopology = "sandbox:"

// Config is what a Manager needs. The zero value of a duration or number means
// its default.
type Config struct {
	// Member is this debughost's name, the owner that Targets shows.
	Member string
	// Node is the hidden node that attaches; its Run is the caller's. Required.
	Node *node.Node
	// Cookie returns the cookie to attach to a node with. Required.
	Cookie func(node string) (dist.Cookie, error)
	// SandboxCookie reads the cookie file of a sandbox. May be nil: then no sandbox is
	// attached to.
	SandboxCookie func(path string) (dist.Cookie, error)
	// Alias is the full name of the node that a name means which no target has; it
	// must not block. May be nil.
	Alias func(name string) (node string, ok bool)
	// Wanted tells whether to attach to a node; it must not block. May be nil:
	// then all that is found is wanted.
	Wanted func(node string) bool
	// Route tells how to reach a node; it must not block. May be nil: then all
	// are reached by TCP.
	Route func(node string) reach.Route
	// Ownership decides whether this member attaches to a node that others see
	// too. May be nil: then it attaches to all.
	Ownership Ownership
	// Publish takes events; it must not block. May be nil.
	Publish func(events.Event)
	// Log may be nil.
	Log *logrus.Entry

	AgentNever bool // never load the helper module; plain calls do its work, slower
	// Budget tells what the asking may cost each target; it is asked anew each time
	// and must not block. May be nil: then it is the default.
	Budget   func() Budget
	MaxCalls int // calls under way at once for each target; default 32
	MaxRows  int // rows in one ranking (limit and offset together); default 100 000

	ConnectTimeout time.Duration // for one attempt; default 7 s
	CallTimeout    time.Duration // for one question to one target, and between two parts of a table; default 5 s
	BackoffMin     time.Duration // between attempts; default 200 ms
	BackoffMax     time.Duration // default 30 s
	GoneAfter      time.Duration // how long a target that is gone stays listed; default 10 min
}

// Verdict is an error as a person reads it.
type Verdict struct {
	State  State
	Reason string
	Hint   string
	// Slow asks for the longest backoff at once: trying soon again is of no use
	// (a wrong cookie) and would fill the target's log.
	Slow bool
	// Absent says that the node is not running, as far as can be told from
	// here: EPMD or the kernel of its machine said so.
	Absent bool
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&c.ConnectTimeout, 7*time.Second)
	def(&c.CallTimeout, 5*time.Second)
	def(&c.BackoffMin, 200*time.Millisecond)
	def(&c.BackoffMax, 30*time.Second)
	def(&c.GoneAfter, 10*time.Minute)
	num(&c.MaxCalls, 32)
	num(&c.MaxRows, 100_000)
	if c.Budget == nil {
		c.Budget = func() Budget { return Budget{} }
	}
	if c.SandboxCookie == nil {
		c.SandboxCookie = func(string) (dist.Cookie, error) {
			return dist.Cookie{}, errors.New("this member reads no cookies of sandboxes")
		}
	}
	if c.Alias == nil {
		c.Alias = func(string) (string, bool) { return "", false }
	}
	if c.Wanted == nil {
		c.Wanted = func(string) bool { return true }
	}
	if c.Route == nil {
		c.Route = func(string) reach.Route { return reach.Route{} }
	}
	if c.Publish == nil {
		c.Publish = func(events.Event) {}
	}
	if c.Log == nil {
		l := logrus.New()
		l.SetLevel(logrus.PanicLevel)
		c.Log = logrus.NewEntry(l)
	}
	return c
}
