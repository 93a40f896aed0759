// Package config reads a member's configuration: built-in defaults, a TOML
// file, the environment and flags, each over the one before, into one typed
// and checked Config.
//
// It is strict. An unknown key, a wrong type, a value out of range, a file
// that is missing or open to others: Load names all such problems of all
// sources at once, each with its key path, its line and what to do. It holds
// no secret (cookies are read from their files when they are used) and it
// watches nothing: to reload is to call Load again and to ask Diff what
// changed.
//
//	cfg, err := config.Load(config.Sources{File: path, Flags: cmd.Flags()})
//	var problems *config.Problems
//	if errors.As(err, &problems) { … } // problems.List
package config

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Config is a complete, checked configuration. config.toml documents every
// key; paths in it are absolute. Nobody changes a Config that Load returned.
//
// The struct tags are the schema: `kind` names a check of kinds, `oneof` the
// allowed values, `min` the least number or duration, and reload:"restart"
// says that a new value takes effect when the host starts. flag is the name of
// the key's flag where it is a shorter one.
type Config struct {
	Member     Member
	Cluster    Cluster
	API        API
	Metrics    Metrics
	Log        Log
	Node       Node
	Targets    Targets
	Plugins    Plugins
	Supervisor Supervisor
	Events     Events
	Topologies []Topology // sorted by name
	Placements []Strategy // those with a section, sorted by name; see Placement
	Sandboxes  []Strategy // those with a section, sorted by name; see Sandbox

	File string // the file that was read; empty without one
}

// Member is the section [member].
type Member struct {
	Name   string            `koanf:"name" kind:"name" flag:"name" reload:"restart"` // empty: the host's name
	Labels map[string]string `koanf:"labels" kind:"tag" flag:"label"`                // what placement may ask for
}

// Cluster is the section [cluster].
type Cluster struct {
	Name      string   `koanf:"name" kind:"label" reload:"restart"`      // two clusters of different names never mix
	Bind      string   `koanf:"bind" kind:"addr" reload:"restart"`       // host:port; empty: see On
	Advertise string   `koanf:"advertise" kind:"addr" reload:"restart"`  // host:port; empty: as bound
	Join      []string `koanf:"join" kind:"addr" flag:"join"`            // other members
	KeyFile   string   `koanf:"key_file" kind:"secret" reload:"restart"` // empty: cluster.key in the data directory
	Profile   string   `koanf:"profile" oneof:"local,lan,wan,fast" flag:"profile" reload:"restart"`
	TLSCert   string   `koanf:"tls_cert" kind:"path" reload:"restart"` // the operator's own PKI: all three or none
	TLSKey    string   `koanf:"tls_key" kind:"secret" reload:"restart"`
	TLSCA     string   `koanf:"tls_ca" kind:"path" reload:"restart"`
}

// DefaultBind is where a cluster listens that is on without saying where.
const DefaultBind = "0.0.0.0:7946"

// Metrics is the section [metrics].
type Metrics struct {
	Address string `koanf:"address" kind:"addr" reload:"restart"` // host:port; empty: none
}

// API is the section [api].
type API struct {
	Socket string `koanf:"socket" kind:"path" reload:"restart"` // empty: api.sock in the data directory
}

// Log is the section [log].
type Log struct {
	Level  string `koanf:"level" oneof:"trace,debug,info,warn,error"`
	Format string `koanf:"format" oneof:"text,json"`
}

// Node is the section [node]: our own hidden node.
type Node struct {
	Name  string `koanf:"name" kind:"node" reload:"restart"` // empty: made from the member's identity
	Names string `koanf:"names" oneof:"auto,short,long" reload:"restart"`
}

// Targets is the section [targets].
type Targets struct {
	CookieFile     string        `koanf:"cookie_file" kind:"secret"` // empty: the user's; see CookieFor
	Cookies        []CookieRule  `koanf:"cookies"`
	TLS            []TLSRule     `koanf:"tls"`
	SSH            []SSHRule     `koanf:"ssh"`
	Include        []string      `koanf:"include" kind:"pattern"`
	Exclude        []string      `koanf:"exclude" kind:"pattern"`
	Agent          string        `koanf:"agent" oneof:"auto,never" reload:"restart"`
	TickTime       time.Duration `koanf:"tick_time" min:"1s" reload:"restart"`
	ConnectTimeout time.Duration `koanf:"connect_timeout" min:"1ms" reload:"restart"`
	BackoffMin     time.Duration `koanf:"backoff_min" min:"1ms" reload:"restart"`
	BackoffMax     time.Duration `koanf:"backoff_max" min:"1ms" reload:"restart"`
	CallTimeout    time.Duration `koanf:"call_timeout" min:"1ms" reload:"restart"`
	MaxCalls       int           `koanf:"max_calls" min:"1" reload:"restart"`
	SchedulerShare int           `koanf:"scheduler_share" min:"1"`
	BytesPerSecond int           `koanf:"bytes_per_second" min:"262144"`
	MaxRows        int           `koanf:"max_rows" min:"1"`
	GoneAfter      time.Duration `koanf:"gone_after" min:"0s" reload:"restart"`
}

// CookieRule gives the nodes that match a pattern a cookie file of their own.
type CookieRule struct {
	Nodes string `koanf:"nodes" kind:"pattern" required:"true"`
	File  string `koanf:"file" kind:"secret" required:"true"`
}

// TLSRule has the nodes that match a pattern spoken to by TLS.
type TLSRule struct {
	Nodes      string `koanf:"nodes" kind:"pattern" required:"true"`
	CAFile     string `koanf:"ca_file" kind:"path"`     // empty: whom this system trusts
	CertFile   string `koanf:"cert_file" kind:"path"`   // ours; empty: none
	KeyFile    string `koanf:"key_file" kind:"secret"`  // with cert_file
	ServerName string `koanf:"server_name" kind:"name"` // empty: the host in the node's name
	Verify     string `koanf:"verify" oneof:"full,ca,none"`
}

// SSHRule has the nodes that match a pattern reached through a jump host.
type SSHRule struct {
	Nodes string `koanf:"nodes" kind:"pattern" required:"true"`
	Via   string `koanf:"via" kind:"via" required:"true"`
}

// Plugins is the section [plugins].
type Plugins struct {
	Dirs           []string          `koanf:"dirs" kind:"dir"`
	StartTimeout   time.Duration     `koanf:"start_timeout" min:"1ms"`
	HealthInterval time.Duration     `koanf:"health_interval" min:"1ms"`
	HealthTimeout  time.Duration     `koanf:"health_timeout" min:"1ms"`
	StopTimeout    time.Duration     `koanf:"stop_timeout" min:"0s"`
	RestartMin     time.Duration     `koanf:"restart_min" min:"1ms"`
	RestartMax     time.Duration     `koanf:"restart_max" min:"1ms"`
	MaxRestarts    int               `koanf:"max_restarts" min:"0"`
	RestartWindow  time.Duration     `koanf:"restart_window" min:"1ms"`
	Checksums      map[string]string `koanf:"checksums" kind:"checksum"` // by plugin name: sha256:<64 hex>
}

// Events is the section [events].
type Events struct {
	MaxCount int           `koanf:"max_count" min:"1" reload:"restart"`
	MaxAge   time.Duration `koanf:"max_age" min:"1s" reload:"restart"`
}

// What a topology can find.
const (
	FindsTargets = "targets" // BEAM nodes
	FindsMembers = "members" // other debughosts
)

// Topology is one strategy at work: the section [topologies.NAME].
type Topology struct {
	Name     string
	Strategy string // the plugin's name
	Finds    string // FindsTargets or FindsMembers
	// Config is the plugin's own section as a JSON object. Numbers are exact;
	// dates and times are strings as RFC 3339 writes them.
	Config json.RawMessage
	// Checksum is what [plugins.checksums] has for the plugin; it may be empty.
	Checksum string
}

// Sources says where a configuration comes from.
type Sources struct {
	// File is the path of the file. Empty: $DEBUGHOST_CONFIG, else
	// /etc/debughost/config.toml if it exists, else none.
	File string
	// Env is the environment as os.Environ has it; nil means os.Environ().
	Env []string
	// Flags holds parsed flags. Those that were given and are called like a
	// key (--log-level for log.level) count; all others are left alone.
	Flags *pflag.FlagSet
}

// layout is the shape of the file. Config differs only in its topologies.
type layout struct {
	Member     Member              `koanf:"member"`
	Cluster    Cluster             `koanf:"cluster"`
	API        API                 `koanf:"api"`
	Metrics    Metrics             `koanf:"metrics"`
	Log        Log                 `koanf:"log"`
	Node       Node                `koanf:"node"`
	Targets    Targets             `koanf:"targets"`
	Plugins    Plugins             `koanf:"plugins"`
	Supervisor Supervisor          `koanf:"supervisor"`
	Events     Events              `koanf:"events"`
	Topologies map[string]topology `koanf:"topologies" kind:"topology"`
	Placement  map[string]section  `koanf:"placement" kind:"section"`
	Sandbox    map[string]section  `koanf:"sandbox" kind:"section"`
}

type topology struct {
	Strategy string         `koanf:"strategy" kind:"plugin" required:"true"`
	Finds    string         `koanf:"finds" oneof:"targets,members"`
	Config   map[string]any `koanf:"config"`
}

// Load reads all sources. Its error is always a *Problems.
func Load(src Sources) (*Config, error) {
	problems := &Problems{}
	layers := src.layers(problems)
	k := koanf.New(".")
	for _, l := range layers {
		l.check(problems)
		if err := l.mergeInto(k); err != nil {
			problems.add(Problem{Origin: l.name, Msg: err.Error()})
		}
	}
	var raw layout
	if err := k.Unmarshal("", &raw); err != nil {
		problems.add(Problem{Msg: err.Error()}) // the checks above leave nothing for it to say
	}
	cfg := &Config{
		Member: raw.Member, Cluster: raw.Cluster, API: raw.API, Metrics: raw.Metrics, Log: raw.Log, Node: raw.Node,
		Targets: raw.Targets, Plugins: raw.Plugins, Supervisor: raw.Supervisor, Events: raw.Events,
		File: layers.file(),
	}
	for _, name := range k.MapKeys("topologies") { // sorted
		t := raw.Topologies[name]
		section, err := json.Marshal(k.Cut("topologies." + name + ".config").Raw())
		if err != nil {
			problems.add(layers.problem("topologies."+name+".config", "", "this section cannot be written as JSON: %v", err))
		}
		if t.Finds == "" {
			t.Finds = FindsTargets
		}
		cfg.Topologies = append(cfg.Topologies, Topology{
			Name: name, Strategy: t.Strategy, Finds: t.Finds, Config: section,
			Checksum: raw.Plugins.Checksums[t.Strategy],
		})
	}
	cfg.Placements = strategies(k, kindPlacement, raw.Plugins.Checksums, layers, problems)
	cfg.Sandboxes = strategies(k, kindSandbox, raw.Plugins.Checksums, layers, problems)
	cfg.checkTogether(layers, problems)
	if len(problems.List) > 0 {
		problems.sort()
		return nil, problems
	}
	return cfg, nil
}

// Clustered tells whether the configuration has the member look for others:
// it says where to listen, whom to join, or how to find them. A member that
// does not is complete by itself and listens nowhere.
func (c *Config) Clustered() bool {
	return c.Cluster.Bind != "" || len(c.Cluster.Join) > 0 ||
		slices.ContainsFunc(c.Topologies, func(t Topology) bool { return t.Finds == FindsMembers })
}

// checkTogether checks what concerns more than one key.
func (c *Config) checkTogether(layers layers, problems *Problems) {
	notAbove := func(low, high string, lowValue, highValue time.Duration) {
		if lowValue > highValue && !problems.has(low) && !problems.has(high) {
			problems.add(layers.problem(low, "", "%s is more than %s, which is %s", lowValue, high, highValue))
		}
	}
	notAbove("targets.backoff_min", "targets.backoff_max", c.Targets.BackoffMin, c.Targets.BackoffMax)
	notAbove("plugins.restart_min", "plugins.restart_max", c.Plugins.RestartMin, c.Plugins.RestartMax)
	if pki := []string{c.Cluster.TLSCert, c.Cluster.TLSKey, c.Cluster.TLSCA}; slices.Contains(pki, "") && strings.Join(pki, "") != "" && !problems.has("cluster") {
		problems.add(layers.problem("cluster", "leave all three out to derive them from the cluster key",
			"tls_cert, tls_key and tls_ca go together, and some are missing"))
	}
	c.checkOrphan(layers, problems)
	if c.Supervisor.Placement == "" && !problems.has("supervisor.placement") {
		problems.add(layers.problem("supervisor.placement", "such as uniform", "the name of a placement strategy is missing"))
	}
	if len(c.Member.Labels) > maxLabels && !problems.has("member.labels") {
		problems.add(layers.problem("member.labels", "", "%d labels, and at most %d can be", len(c.Member.Labels), maxLabels))
	}
	for i, rule := range c.Targets.TLS {
		if (rule.CertFile == "") != (rule.KeyFile == "") && !problems.has("targets.tls") {
			problems.add(layers.problem("targets.tls", "a certificate without its key is of no use, nor the other way round",
				"cert_file and key_file go together, and rule %d has only one", i+1))
		}
	}
	if sort := nameSort(c.Node.Name); sort != "" && c.Node.Names != "auto" && sort != c.Node.Names && !problems.has("node") {
		problems.add(layers.problem("node.name", `a long name has a dot after the @; set node.names to "auto"`,
			"%s is a %s name, and node.names is %q", c.Node.Name, sort, c.Node.Names))
	}
}
