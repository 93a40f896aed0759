package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/target"
)

// retryMetrics is the pause before the address for metrics is tried again; tests
// change it.
var retryMetrics = 5 * time.Second

// serveMetrics answers Prometheus until ctx ends. An address that can't be had
// costs the metrics, not the member: it is told once and tried again.
func (s *Server) serveMetrics(ctx context.Context) {
	if s.opts.Metrics == "" {
		return
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	log := s.opts.Log.WithField("address", s.opts.Metrics)
	for told := false; ; {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opts.Metrics)
		if err == nil {
			log.WithField("address", l.Addr().String()).Info("metrics served")
			told = false
			err = serveHTTP(ctx, l, mux)
		}
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			log.WithError(err).Warn("metrics are not served, trying again")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryMetrics):
		}
	}
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		select {
		case <-ctx.Done():
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if srv.Shutdown(stopping) != nil {
				srv.Close()
			}
		case <-done:
		}
	})
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// collector reads the numbers when Prometheus asks for them, so that they cost
// nothing else.
type collector struct {
	s     *Server
	descs map[string]*prometheus.Desc
}

// metrics are all there are: name, help, labels.
var metrics = []struct {
	name, help string
	labels     []string
}{
	{"members", "Members of the cluster by state, as this one sees them.", []string{"state"}},
	{"cluster_size", "Members that are known and have neither left nor been forgotten.", nil},
	{"cluster_alive", "Members that answer, this one included.", nil},
	{"cluster_quorum", "1 while this member sees a majority.", nil},
	{"targets", "Targets of the cluster by state.", []string{"state"}},
	{"targets_owned", "Targets that this member is to attach to, by state.", []string{"state"}},
	{"target_calls_total", "Functions called on each target by this member.", []string{"node"}},
	{"target_calls_failed_total", "Of these, those that failed or got no answer in time.", []string{"node"}},
	{"target_received_bytes_total", "Bytes that each target sent to this member.", []string{"node"}},
	{"target_sent_bytes_total", "Bytes that this member sent to each target.", []string{"node"}},
	{"target_reductions_total", "Reductions of this member's helper processes on each target.", []string{"node"}},
	{"target_rows_total", "Rows of the answers of each target.", []string{"node"}},
	{"target_slowed_total", "Times that the budget of a target had a question wait.", []string{"node"}},
	{"target_cut_total", "Answers of each target that the budget cut.", []string{"node"}},
	{"plugins", "Plugin processes by state.", []string{"state"}},
	{"plugin_restarts_total", "Restarts of each plugin.", []string{"plugin"}},
	{"events_total", "Events seen, those of other members included.", nil},
	{"calls_forwarded_total", "Calls passed on to other members.", nil},
	{"calls_retried_total", "Calls made once more, since their target had another owner.", nil},
	{"calls_lost_total", "Calls that failed since a member could not be reached.", nil},
	{"event_loop_lag_seconds", "How late timers were at worst in the last ten seconds.", nil},
	{"children", "Children of the cluster by state, as this member knows them.", []string{"state"}},
	{"children_assigned", "Children that are assigned to this member.", nil},
	{"child_restarts_total", "How often this member started a child again that had ended.", nil},
	{"members_draining", "Members that take no children.", nil},
	{"registry_entries", "Entries of the registry.", nil},
	{"registry_lag", "Changes heard of and not applied, by the member they come from.", []string{"origin"}},
	{"registry_sent_bytes_total", "Bytes of the registry's messages sent.", nil},
	{"registry_received_bytes_total", "Bytes of the registry's messages received.", nil},
	{"registry_messages_total", "Messages of the registry received.", nil},
	{"registry_repairs_total", "Gaps in what was received that were filled.", nil},
	{"registry_snapshots_total", "Snapshots taken in.", nil},
	{"registry_conflicts_total", "Unique keys that were claimed twice.", nil},
}

func newCollector(s *Server) *collector {
	c := &collector{s: s, descs: map[string]*prometheus.Desc{}}
	for _, m := range metrics {
		c.descs[m.name] = prometheus.NewDesc("debughost_"+m.name, m.help, m.labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType) func(name string, v float64, labels ...string) {
		return func(name string, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(c.descs[name], kind, v, labels...)
		}
	}
	gauge, counter := send(prometheus.GaugeValue), send(prometheus.CounterValue)
	c.members(gauge)
	c.targets(gauge, counter)
	plugins, restarts := map[string]int{}, map[string]int{}
	for _, p := range c.s.engine.Plugins() {
		plugins[p.State]++
		restarts[p.Name] += p.Restarts
	}
	for state, n := range plugins {
		gauge("plugins", float64(n), clean(state))
	}
	for name, n := range restarts {
		counter("plugin_restarts_total", float64(n), clean(name))
	}
	counter("events_total", float64(c.s.engine.Events().Last()))
	counter("calls_forwarded_total", float64(c.s.forward.passed.Load()))
	counter("calls_retried_total", float64(c.s.forward.again.Load()))
	counter("calls_lost_total", float64(c.s.forward.failed.Load()))
	lag, _ := c.s.meter.read()
	gauge("event_loop_lag_seconds", lag.Seconds())
	c.children(gauge, counter)
	if r := c.s.opts.Registry; r != nil {
		st := r.Stats()
		gauge("registry_entries", float64(st.Entries))
		for origin, n := range st.Lag {
			gauge("registry_lag", float64(n), clean(origin))
		}
		counter("registry_sent_bytes_total", float64(st.Sent))
		counter("registry_received_bytes_total", float64(st.Received))
		counter("registry_messages_total", float64(st.Messages))
		counter("registry_repairs_total", float64(st.Repairs))
		counter("registry_snapshots_total", float64(st.Snapshots))
		counter("registry_conflicts_total", float64(st.Conflicts))
	}
}

// children tells of those that wait for a member as state pending.
func (c *collector) children(gauge, counter func(string, float64, ...string)) {
	e := c.s.opts.Supervisor
	if e == nil {
		return
	}
	n := e.CountChildren()
	for _, state := range childStates {
		gauge("children", float64(n.ByState[state]), clean(string(state)))
	}
	gauge("children_assigned", float64(n.ByMember[c.s.self()]))
	gauge("members_draining", float64(len(e.DrainingMembers())))
	counter("child_restarts_total", float64(e.ChildRestarts()))
}

func (c *collector) members(gauge func(string, float64, ...string)) {
	e := c.s.opts.Cluster
	if e == nil {
		return
	}
	states := map[cluster.State]int{cluster.Alive: 0, cluster.Suspect: 0, cluster.Unreachable: 0, cluster.Dead: 0, cluster.Left: 0}
	for _, m := range e.Members() {
		states[m.State]++
	}
	for state, n := range states {
		gauge("members", float64(n), clean(string(state)))
	}
	q := e.Quorum()
	has := 0.0
	if q.Has {
		has = 1
	}
	gauge("cluster_size", float64(q.Size))
	gauge("cluster_alive", float64(q.Alive))
	gauge("cluster_quorum", has)
}

func (c *collector) targets(gauge, counter func(string, float64, ...string)) {
	all, own := map[target.State]int{target.Attached: 0}, map[target.State]int{target.Attached: 0}
	self := c.s.self()
	for _, t := range c.s.engine.Targets() {
		all[t.State]++
		if t.Owner == self {
			own[t.State]++
		}
		if !t.Cost.Since.IsZero() {
			costs(clean(t.Node), t.Cost, counter)
		}
	}
	for state, n := range all {
		gauge("targets", float64(n), clean(string(state)))
	}
	for state, n := range own {
		gauge("targets_owned", float64(n), clean(string(state)))
	}
}

// costs is what this member has cost one of its targets.
func costs(node string, t target.Cost, counter func(string, float64, ...string)) {
	counter("target_calls_total", float64(t.Calls), node)
	counter("target_calls_failed_total", float64(t.Failed+t.TimedOut), node)
	counter("target_received_bytes_total", float64(t.Received), node)
	counter("target_sent_bytes_total", float64(t.Sent), node)
	counter("target_reductions_total", float64(t.Reductions), node)
	counter("target_rows_total", float64(t.Rows), node)
	counter("target_slowed_total", float64(t.Slowed), node)
	counter("target_cut_total", float64(t.Cut), node)
}
