package plugin

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/sirupsen/logrus"
)

// ownName is the name under which go-plugin itself logs. What the plugin logs
// comes under a name below it.
const ownName = "go-plugin"

var hclogLevels = map[logrus.Level]hclog.Level{
	logrus.TraceLevel: hclog.Trace,
	logrus.DebugLevel: hclog.Debug,
	logrus.InfoLevel:  hclog.Info,
	logrus.WarnLevel:  hclog.Warn,
	logrus.ErrorLevel: hclog.Error,
	logrus.FatalLevel: hclog.Error,
	logrus.PanicLevel: hclog.Error,
}

var logrusLevels = map[hclog.Level]logrus.Level{
	hclog.Trace: logrus.TraceLevel,
	hclog.Debug: logrus.DebugLevel,
	hclog.Info:  logrus.InfoLevel,
	hclog.Warn:  logrus.WarnLevel,
	hclog.Error: logrus.ErrorLevel,
}

// newLogger returns a logger for go-plugin that ends in log.
func newLogger(log logrus.FieldLogger, level hclog.Level) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: ownName, Level: level, Output: io.Discard})
	l.RegisterSink(&sink{log: log, level: level, rate: newBucket(logBurst, logRate)})
	return l
}

const (
	logBurst   = 200 // entries at once
	logRate    = 20  // and then a second
	maxMessage = 4 << 10
)

// sink brings log entries of a plugin into the host's log, at a bounded rate.
type sink struct {
	log   logrus.FieldLogger
	level hclog.Level

	mu      sync.Mutex
	rate    *bucket
	dropped int
}

var _ hclog.SinkAdapter = (*sink)(nil)

func (s *sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	// What the plugin prints is none of a log's business.
	if level < s.level || name == ownName+".stdio" {
		return
	}
	if !strings.HasPrefix(name, ownName+".") {
		// What go-plugin has to say is in our own words elsewhere.
		s.log.WithField("detail", details(args)).Trace(msg)
		return
	}
	dropped, ok := s.admit()
	if !ok {
		return
	}
	if dropped > 0 {
		s.log.WithField("dropped", dropped).Warn("plugin logs too much")
	}
	log := s.log.WithField("source", "plugin")
	for i := 0; i+1 < len(args); i += 2 {
		if key := fmt.Sprint(args[i]); key != "timestamp" {
			log = log.WithField(cut(key), cut(fmt.Sprint(args[i+1])))
		}
	}
	to, ok := logrusLevels[level]
	if !ok {
		to = logrus.InfoLevel
	}
	log.Log(to, cut(msg))
}

// admit takes one entry from the rate, and says how many were dropped before.
func (s *sink) admit() (dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate.take(1, time.Now()) > 0 {
		s.rate.level++ // it is not in debt for what is dropped
		s.dropped++
		return 0, false
	}
	dropped, s.dropped = s.dropped, 0
	return dropped, true
}

func details(args []any) string {
	var b strings.Builder
	for i := 0; i+1 < len(args); i += 2 {
		fmt.Fprintf(&b, "%v=%v ", args[i], args[i+1])
	}
	return cut(strings.TrimSpace(b.String()))
}

func cut(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
