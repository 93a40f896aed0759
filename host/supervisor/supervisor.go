package supervisor

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/debughost/debughost/host/broadcast"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/events"
	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/supervisor/book"
	"github.com/debughost/debughost/sdk"
)

// Config says who a supervisor is and what it may call. The functions are called
// from several goroutines; those without a context must not block.
type Config struct {
	Member    string // this member's name
	Clustered bool   // there may be other members
	Seeded    bool   // it is known where they may be
	Path      string // of the book; empty: nothing is kept
	Registry  *registry.Registry
	Members   func() []cluster.Member
	Changed   func() <-chan struct{} // closed when Members says something new
	Quorum    func() cluster.Quorum

	// Sandbox returns the strategy of a name, and Placement too, where the empty one
	// is the one that is configured, with the name of its plugin. They may wait for
	// a plugin that is being started; their errors may be temporary.
	Sandbox   func(ctx context.Context, strategy string) (sdk.Sandbox, error)
	Placement func(ctx context.Context, strategy string) (p sdk.Placement, plugin string, err error)
	// Fetch writes the state of a child that another member runs, by the assignment of
	// this epoch, which is to go on here: that member's Snapshot. Nil: there are no
	// such moves.
	Fetch func(ctx context.Context, member, child string, epoch uint64, w io.Writer) error
	// Blob returns the absolute path of a blob that a spec names, which is fetched where
	// it is not here, and stays for as long as one names it. Nil: there are none.
	Blob func(ctx context.Context, id string) (path string, err error)
	// Nodes takes the nodes of the sandboxes that run on this member, by the ids of
	// their children, each time that they are others. It must not block, and is called
	// by one goroutine at a time. Nil: nobody wants to know.
	Nodes func([]NodeAt)
	// Near are the members on whose machine a target is. May be nil.
	Near func(node string) []string

	Settings Settings
	Publish  func(events.Event)
	Log      logrus.FieldLogger // default: none
}

// Settings may change while it runs.
type Settings struct {
	Labels     map[string]string // of this member
	Orphan     time.Duration     // how long children outlive their member
	Active     bool              // children move when a member joins, too
	MaxMoves   int               // at a time; default 2
	Tombstones time.Duration     // how long a removed child is remembered; default a week
}

func (s Settings) complete() Settings {
	if s.MaxMoves <= 0 {
		s.MaxMoves = 2
	}
	if s.Tombstones <= 0 {
		s.Tombstones = 7 * 24 * time.Hour
	}
	return s
}

// Supervisor is one member's part of the supervisor: the core with a clock, a
// disk, the registry and the plugins. Its methods may be called from any
// goroutine.
//
// Goroutines, all owned by Run: the book's writer; perform, which does what the
// core wants in its order; clock, which looks at the time and the members; one
// for each watch of the registry; one for each placement strategy that is in use
// (placer); one for each call to a sandbox strategy (call, reload), with one more while it
// restores a snapshot that another member sends; and for each child that runs here one
// that waits for its end (wait) and one that asks where its node is (follow).
type Supervisor struct {
	cfg     Config
	began   time.Time // for the clock that only runs forward
	life    int64     // tells this life of the member in what it publishes
	wake    chan struct{}
	news    broadcast.Signal // children changed
	acked   broadcast.Signal // others have confirmed something
	confirm chan struct{}

	mu       sync.Mutex
	core     *core
	queue    []action
	settings Settings
	book     *book.Book // nil: nothing is kept
	lastPut  uint64     // in the book
	pubs     uint64     // records published by this life
	restarts uint64
	sync     syncing
	hearing  map[string]*hearing // by member: what it publishes and we confirm
	acks     map[string]acks     // by member: what it confirms
	drains   map[string]drain
	infos    map[string]info // by member: its resources
	placers  map[string]*placer
	waits    map[string]*wait              // by child: who waits for its end
	loads    map[string]context.CancelFunc // by child: its reload, or its start
	heardAll atomic.Bool                   // what others had published when this one had caught up

	nodesMu sync.Mutex
	nodes   map[*wait]NodeAt // of the runs that are waited for

	// Only in Run.
	tasks sync.WaitGroup
	ctx   context.Context
	slots chan struct{} // bounds the calls to sandbox strategies
}

// maxCalls bounds the calls to sandbox strategies at one time, but for those
// that wait for an end: a hundred children that take their time to stop must not
// hold up the others.
const maxCalls = 64

// New reads the book. What its last page has that cannot be read is a warning.
// The caller calls Run or Close.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		cfg.Log = l
	}
	if cfg.Publish == nil {
		cfg.Publish = func(events.Event) {}
	}
	now := time.Now()
	s := &Supervisor{
		cfg: cfg, began: now, life: now.UnixNano(), wake: make(chan struct{}, 1), confirm: make(chan struct{}, 1),
		settings: cfg.Settings.complete(), hearing: map[string]*hearing{}, acks: map[string]acks{},
		drains: map[string]drain{}, infos: map[string]info{}, placers: map[string]*placer{}, waits: map[string]*wait{}, loads: map[string]context.CancelFunc{}, nodes: map[*wait]NodeAt{},
		slots: make(chan struct{}, maxCalls),
	}
	s.core = newCore(cfg.Member, s.coreConfig(), s.now())
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close lets go of the book. Run does it too.
func (s *Supervisor) Close() error {
	if s.book == nil {
		return nil
	}
	return s.book.Close()
}

func (s *Supervisor) coreConfig() coreConfig {
	return coreConfig{
		clustered: s.cfg.Clustered, active: s.settings.Active, maxMoves: s.settings.MaxMoves, tombstones: s.settings.Tombstones,
	}
}

// Apply puts other settings in force.
func (s *Supervisor) Apply(settings Settings) {
	s.mu.Lock()
	s.settings = settings.complete()
	s.core.cfg = s.coreConfig()
	s.mu.Unlock()
	s.do(func(c *core, now instant) { c.hurry(now) })
}

func (s *Supervisor) current() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

func (s *Supervisor) now() instant {
	now := time.Now()
	return instant{mono: now.Sub(s.began), wall: now.Round(0)}
}

// do has something happen to the core, and what it wants done queued: in the
// order in which it wants it. What goes on disk is handed to the book at once.
func (s *Supervisor) do(step func(c *core, now instant)) {
	s.mu.Lock()
	step(s.core, s.now())
	actions := s.core.take()
	s.put(actions)
	s.queue = append(s.queue, actions...)
	s.mu.Unlock()
	if len(actions) > 0 {
		wake(s.wake)
		s.news.Tell()
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run keeps the children of this member running until ctx ends. Children go on
// after it, for as long as their strategies let them: a later life takes them
// over. Leave first has them run elsewhere.
func (s *Supervisor) Run(ctx context.Context) error {
	var keeper sync.WaitGroup
	keeping, stopKeeping := context.WithCancel(context.Background())
	if s.book != nil {
		keeper.Go(func() {
			if err := s.book.Run(keeping); err != nil {
				s.cfg.Log.WithField("err", err).Error("not all of the supervisor's book is on disk")
			}
		})
	}
	s.ctx = ctx
	s.look()
	for _, task := range []func(context.Context){s.perform, s.clock, s.watchRecords, s.watchFacts, s.watchMembers, s.confirmer} {
		s.tasks.Go(func() { task(ctx) })
	}
	<-ctx.Done()
	s.tasks.Wait()
	stopKeeping() // what the others have noted last is written still
	keeper.Wait()
	return nil
}

// perform does what the core wants done.
func (s *Supervisor) perform(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for {
			s.mu.Lock()
			queue := s.queue
			s.queue = nil
			s.mu.Unlock()
			if len(queue) == 0 {
				break
			}
			for i := range queue {
				s.performOne(&queue[i])
			}
		}
	}
}

func (s *Supervisor) performOne(a *action) {
	switch a.kind {
	case doPublish:
		s.publishRecord(a.rec)
	case doWithdraw:
		s.withdraw(recordPrefix + a.id)
	case doTell:
		s.publishFact(a.id, a.fact)
	case doPlace:
		s.place(*a)
	case doCreate, doRecover, doStop, doDestroy:
		s.call(*a)
	case doReload:
		s.reload(*a)
	case doGiveUp:
		s.giveUp(a.id)
	case doNote:
		s.event(a)
	case doSignal:
		close(a.signal)
	}
}
