package plugintest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

// Figures are what one process of a plugin costs.
type Figures struct {
	Start  time.Duration // from the start of the process to its first sign of life
	Ready  time.Duration // from the start to an accepted config
	Answer time.Duration // from the start to the first answer of a discovery plugin; else 0
	// Memory in bytes, of the idle process; 0 where the system does not tell.
	// Proportional memory counts a page that n processes share as an nth.
	Proportional, Private uint64
}

// Measure starts the plugin, configures it and, if it is one for discovery,
// waits for its first answer. It then lets the process be idle for a moment
// before it looks at its memory.
func Measure(ctx context.Context, p Plugin) (Figures, error) {
	p = p.withDefaults()
	var f Figures
	began := time.Now()
	s, err := start(ctx, p)
	if err != nil {
		return f, err
	}
	defer s.stop()
	f.Start = time.Since(began)
	d, err := s.Describe(ctx)
	if err != nil {
		return f, s.explain(err)
	}
	if err := s.configure(ctx, p.Config); err != nil {
		return f, err
	}
	f.Ready = time.Since(began)
	if d.Kind == sdk.KindDiscovery {
		if _, err := s.first(ctx); err != nil {
			return f, err
		}
		f.Answer = time.Since(began)
		watch, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		defer func() { cancel(); <-ended }()
		go func() {
			defer close(ended)
			_ = s.watch(watch, func(sdk.Answer) error { return nil })
		}()
	}
	if p.Idle > 0 {
		if err := pause(ctx, p.Idle); err != nil {
			return f, err
		}
		f.Proportional, f.Private = memory(s.cmd.Process.Pid)
	}
	return f, nil
}

// memory reads smaps_rollup of Linux.
func memory(pid int) (proportional, private uint64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || fields[2] != "kB" {
			continue
		}
		kb, _ := strconv.ParseUint(fields[1], 10, 64)
		switch fields[0] {
		case "Pss:":
			proportional = kb << 10
		case "Private_Clean:", "Private_Dirty:":
			private += kb << 10
		}
	}
	return proportional, private
}
