package supervisor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// info is what a member says of itself for placements.
type info struct {
	At              int64             `json:"t"` // Unix nanoseconds
	CPUs            int               `json:"c"`
	Load            float64           `json:"l"`
	MemoryTotal     uint64            `json:"m"`
	MemoryAvailable uint64            `json:"a"`
	Labels          map[string]string `json:"s,omitempty"`
}

// readInfo reads how this machine does. What this system does not tell is zero.
func (s *Supervisor) readInfo() info {
	i := info{At: time.Now().UnixNano(), CPUs: runtime.NumCPU(), Labels: maps.Clone(s.current().Labels)}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(b), &i.Load)
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		i.MemoryTotal, i.MemoryAvailable = parseMeminfo(b)
	}
	return i
}

// parseMeminfo reads MemTotal and MemAvailable, in bytes.
func parseMeminfo(b []byte) (total, available uint64) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
		switch {
		case err != nil:
		case name == "MemTotal":
			total = kb << 10
		case name == "MemAvailable":
			available = kb << 10
		}
	}
	return total, available
}

// publishInfo tells others how this member does.
func (s *Supervisor) publishInfo() {
	i := s.readInfo()
	s.mu.Lock()
	s.infos[s.cfg.Member] = i
	s.mu.Unlock()
	if !s.cfg.Clustered {
		return
	}
	if b, err := json.Marshal(i); err == nil {
		s.register(memberPrefix+s.cfg.Member+"/info", b)
	}
}
