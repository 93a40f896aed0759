package control

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// meter watches how late timers fire and how much of a core this process
// takes. A member whose timers are late seems dead to others, and its state is
// then the first thing to look at.
type meter struct {
	mu   sync.Mutex
	late [meterSpan]time.Duration // the worst of each of the last seconds
	cpu  [meterSpan]time.Duration // used since the start, at the end of each
	at   [meterSpan]time.Time
	next int
}

const (
	meterSpan = 10                     // seconds that are looked back
	meterTick = 250 * time.Millisecond // between two looks
)

// run measures until ctx ends.
func (m *meter) run(ctx context.Context) {
	tick := time.NewTimer(meterTick)
	defer tick.Stop()
	m.second(cpuTime())
	for n := 1; ; n++ {
		due := time.Now().Add(meterTick)
		tick.Reset(meterTick)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.note(max(time.Since(due), 0))
		if n%int(time.Second/meterTick) == 0 {
			m.second(cpuTime())
		}
	}
}

func (m *meter) note(late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.late[m.next] = max(m.late[m.next], late)
}

// second begins the next second.
func (m *meter) second(cpu time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cpu[m.next], m.at[m.next] = cpu, time.Now()
	m.next = (m.next + 1) % meterSpan
	m.late[m.next] = 0
}

// read returns the worst lateness and the share of one core of the last
// seconds.
func (m *meter) read() (late time.Duration, cpu float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first, last int
	for i := range meterSpan {
		late = max(late, m.late[i])
		if m.at[i].IsZero() {
			continue
		}
		if m.at[first].IsZero() || m.at[i].Before(m.at[first]) {
			first = i
		}
		if m.at[i].After(m.at[last]) {
			last = i
		}
	}
	if span := m.at[last].Sub(m.at[first]); span > 0 {
		cpu = max(0, (m.cpu[last]-m.cpu[first]).Seconds()/span.Seconds())
	}
	return late, cpu
}

// cpuTime is what this process has used; 0 where the system does not tell.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
