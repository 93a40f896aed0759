package config

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/v2"
)

// Supervisor is the section [supervisor].
type Supervisor struct {
	Placement      string        `koanf:"placement" kind:"strategy"` // of children that name none; see Config.Placement
	Redistribution string        `koanf:"redistribution" oneof:"passive,active"`
	MaxMoves       int           `koanf:"max_moves" min:"1"`
	Orphan         string        `koanf:"orphan" kind:"grace"` // a duration, or empty; see Config.Orphan
	Tombstones     time.Duration `koanf:"tombstones" min:"1m"`
}

// What Supervisor.Redistribution can be.
const (
	Passive = "passive" // children move when their member is lost or drained
	Active  = "active"  // also when a member joins
)

// maxLabels bounds the labels of a member, which all members keep.
const maxLabels = 32

// section is a plugin's own section as the file has it. Its key strategy is ours.
type section map[string]any

// Strategy is a placement or sandbox strategy: the section [placement.NAME] or
// [sandbox.NAME], or one that has no section.
type Strategy struct {
	Name   string
	Plugin string // placement-uniform
	// Config is the plugin's own section as a JSON object, as in Topology.
	Config json.RawMessage
	// Checksum is what [plugins.checksums] has for the plugin; it may be empty.
	Checksum string
}

func (s Strategy) equal(o Strategy) bool {
	return s.Name == o.Name && s.Plugin == o.Plugin && s.Checksum == o.Checksum && string(s.Config) == string(o.Config)
}

// The kinds of strategies, by the names of their sections, which are also what
// their plugins' names begin with.
const (
	kindPlacement = "placement"
	kindSandbox   = "sandbox"
)

// Placement returns the placement strategy of a name; the empty name means the
// configured one. Any name is one: without a section it is the plugin of that
// name, which is found or not when it is started.
func (c *Config) Placement(name string) Strategy {
	if name == "" {
		name = c.Supervisor.Placement
	}
	return c.strategy(kindPlacement, c.Placements, name)
}

// Sandbox returns the sandbox strategy of a name, as Placement does.
func (c *Config) Sandbox(name string) Strategy {
	return c.strategy(kindSandbox, c.Sandboxes, name)
}

func (c *Config) strategy(kind string, known []Strategy, name string) Strategy {
	if i := slices.IndexFunc(known, func(s Strategy) bool { return s.Name == name }); i >= 0 {
		return known[i]
	}
	plugin := kind + "-" + name
	return Strategy{Name: name, Plugin: plugin, Config: json.RawMessage("{}"), Checksum: c.Plugins.Checksums[plugin]}
}

// strategies reads the sections of one kind.
func strategies(k *koanf.Koanf, kind string, checksums map[string]string, layers layers, problems *Problems) []Strategy {
	var list []Strategy
	for _, name := range k.MapKeys(kind) { // sorted
		at := kind + "." + name
		keys := k.Cut(at).Raw()
		s := Strategy{Name: name, Plugin: kind + "-" + name}
		if plugin, ok := keys["strategy"].(string); ok {
			s.Plugin = plugin
			delete(keys, "strategy")
		}
		config, err := json.Marshal(keys)
		if err != nil {
			problems.add(layers.problem(at, "", "this section cannot be written as JSON: %v", err))
		}
		s.Config, s.Checksum = config, checksums[s.Plugin]
		list = append(list, s)
	}
	return list
}

// grace has for each cluster profile how long children outlive their member, and
// the time by which the others may have started them elsewhere.
var grace = map[string]struct{ usual, below time.Duration }{
	"fast":  {500 * time.Millisecond, time.Second},
	"lan":   {1500 * time.Millisecond, 2700 * time.Millisecond},
	"local": {1500 * time.Millisecond, 2700 * time.Millisecond},
	"wan":   {15 * time.Second, 30 * time.Second},
}

// aloneGrace is how long children outlive a member that is in no cluster:
// nobody else starts them.
const aloneGrace = time.Minute

// Orphan is how long children run on when their member is gone, for a successor to
// take them over.
func (c *Config) Orphan() time.Duration {
	if d, err := time.ParseDuration(c.Supervisor.Orphan); err == nil {
		return d
	}
	if !c.Clustered() {
		return aloneGrace
	}
	return grace[c.Cluster.Profile].usual
}

func (c *Config) checkOrphan(layers layers, problems *Problems) {
	const key = "supervisor.orphan"
	limit := grace[c.Cluster.Profile].below
	if !c.Clustered() || c.Orphan() < limit || problems.has(key) || problems.has("cluster.profile") {
		return
	}
	problems.add(layers.problem(key, "leave it empty to have it follow the profile",
		"children that outlive their member by %s would run twice: with the profile %q it has to be less than %s, when the others may start them",
		strings.TrimSpace(c.Supervisor.Orphan), c.Cluster.Profile, limit))
}
