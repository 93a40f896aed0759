package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStrategies(t *testing.T) {
	sum := "sha256:" + strings.Repeat("ab", 32)
	cfg, err := Load(Sources{Env: noEnv, File: file(t, `
		plugins.checksums = { placement-ours = "`+sum+`", placement-random = "`+sum+`" }
		supervisor.placement = "quorum"
		[placement.quorum]
		stop = true
		[placement.own]
		strategy = "placement-ours"
		weights = { memory = 0.5, "a.b" = 1 }
		[sandbox.process]
		strategy = "sandbox-other"
	`)})
	require.NoError(t, err)
	assert.Equal(t, []Strategy{
		{Name: "own", Plugin: "placement-ours", Config: json.RawMessage(`{"weights":{"a.b":1,"memory":0.5}}`), Checksum: sum},
		{Name: "quorum", Plugin: "placement-quorum", Config: json.RawMessage(`{"stop":true}`)},
		{Name: "uniform", Plugin: "placement-uniform", Config: json.RawMessage(`{}`)},
	}, cfg.Placements)
	assert.Equal(t, []Strategy{
		{Name: "beam", Plugin: "sandbox-beam", Config: json.RawMessage(`{}`)},
		{Name: "process", Plugin: "sandbox-other", Config: json.RawMessage(`{}`)},
	}, cfg.Sandboxes)

	assert.Equal(t, cfg.Placements[1], cfg.Placement(""), "as configured")
	assert.Equal(t, cfg.Placements[0], cfg.Placement("own"))
	assert.Equal(t, Strategy{Name: "random", Plugin: "placement-random", Config: json.RawMessage("{}"), Checksum: sum}, cfg.Placement("random"), "one without a section")
	assert.Equal(t, "sandbox-vm", cfg.Sandbox("vm").Plugin)
}

func TestLabelsComeFromAllSources(t *testing.T) {
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.StringSlice("label", nil, "")
	require.NoError(t, flags.Parse([]string{"--label", "zone=c", "--label=rack=r=1,empty="}))
	cfg, err := Load(Sources{File: file(t, "member.labels = { zone = 'a', disk = 'hdd', gpu = 'no' }\n"), Flags: flags,
		Env: []string{"DEBUGHOST_MEMBER_LABELS=zone=b, disk=ssd"}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"zone": "c", "disk": "ssd", "gpu": "no", "rack": "r=1", "empty": ""}, cfg.Member.Labels)
}

func TestOrphanFollowsTheProfile(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                         time.Minute,
		"supervisor.orphan = '1h'": time.Hour,
		"supervisor.orphan = '0s'": 0,
		"cluster.bind = 'a:1'":     1500 * time.Millisecond,
		"cluster.bind = 'a:1'\ncluster.profile = 'fast'":                              500 * time.Millisecond,
		"cluster.bind = 'a:1'\ncluster.profile = 'local'":                             1500 * time.Millisecond,
		"cluster.bind = 'a:1'\ncluster.profile = 'wan'":                               15 * time.Second,
		"cluster.bind = 'a:1'\ncluster.profile = 'fast'\nsupervisor.orphan = '990ms'": 990 * time.Millisecond,
	} {
		cfg, err := Load(Sources{File: file(t, text), Env: noEnv})
		require.NoError(t, err, text)
		assert.Equal(t, want, cfg.Orphan(), text)
	}
}

func TestProblemsOfTheSupervisor(t *testing.T) {
	for text, want := range map[string]string{
		"member.labels = ['a']":                                                      `member.labels: want a table, have a list`,
		"member.labels = { zone = 3 }":                                               `member.labels.zone: want a text in quotes, have 3`,
		"member.labels = { zone = 'a b' }":                                           `member.labels.zone: "a b" is not a label`,
		"member.labels = { zone = 'a,b' }":                                           `member.labels.zone: "a,b" is not a label`,
		"member.labels = { 'a b' = 'x' }":                                            `want a name of letters, digits, - and _`,
		"supervisor.placement = 'placement-uniform'":                                 `(write "uniform")`,
		"supervisor.placement = ''":                                                  `supervisor.placement: the name of a placement strategy is missing`,
		"supervisor.placement = '../x'":                                              `"../x" is not the name of a strategy`,
		"supervisor.redistribution = 'activ'":                                        `"activ" is not one of passive, active (do you mean active?)`,
		"supervisor.max_moves = 0":                                                   `0 is not between 1 and`,
		"supervisor.orphan = '-1s'":                                                  `"-1s" is neither a duration such as "1500ms" nor empty`,
		"supervisor.orphan = 5":                                                      `supervisor.orphan: want a text in quotes, have 5`,
		"supervisor.tombstones = '1s'":                                               `1s is less than 1m`,
		"supervisor.max_move = 1":                                                    `(do you mean supervisor.max_moves?)`,
		"placement.uniform = 1":                                                      `placement.uniform: want a table, have 1`,
		"placement.uniform = { strategy = '../evil' }":                               `config.toml:1: placement.uniform.strategy: "../evil" is not the name of a plugin`,
		"sandbox.process = { strategy = 3 }":                                         `sandbox.process.strategy: want a text in quotes, have 3`,
		"sandbox.process = { n = nan }":                                              `sandbox.process: this section cannot be written as JSON`,
		"[placement.'a b']":                                                          `want a name of letters, digits, - and _`,
		"cluster.bind = 'a:1'\nsupervisor.orphan = '2700ms'":                         `config.toml:2: supervisor.orphan: children that outlive their member by 2700ms would run twice: with the profile "lan" it has to be less than 2.7s`,
		"cluster = { bind = 'a:1', profile = 'fast' }\nsupervisor.orphan = '1500ms'": `less than 1s, when the others may start them (leave it empty to have it follow the profile)`,
	} {
		_, err := Load(Sources{File: file(t, text), Env: noEnv})
		assert.ErrorContains(t, err, want, text)
	}
	labels := "member.labels = { "
	for i := range 33 {
		labels += strings.Repeat("a", i+1) + " = '', "
	}
	_, err := Load(Sources{File: file(t, strings.TrimSuffix(labels, ", ")+" }"), Env: noEnv})
	assert.ErrorContains(t, err, "33 labels, and at most 32 can be")

	_, err = Load(Sources{Env: []string{"DEBUGHOST_MEMBER_LABELS=zone", "DEBUGHOST_PLACEMENT_UNIFORM_X=1", "DEBUGHOST_SUPERVISOR_MAX_MOVE=3"}})
	assert.ErrorContains(t, err, `environment variable DEBUGHOST_MEMBER_LABELS: member.labels: want NAME=VALUE, have "zone"`)
	assert.ErrorContains(t, err, `DEBUGHOST_PLACEMENT_UNIFORM_X: no such key (this can be set in the file only)`)
	assert.ErrorContains(t, err, `do you mean DEBUGHOST_SUPERVISOR_MAX_MOVES?`)
}

func TestDiffOfTheSupervisor(t *testing.T) {
	load := func(text string) *Config {
		cfg, err := Load(Sources{Env: noEnv, File: file(t, text)})
		require.NoError(t, err)
		return cfg
	}
	old := load("[placement.a]\n[placement.b]\nn = 1\n[sandbox.vm]\n[cluster]\nbind = 'a:1'\n")
	assert.True(t, Diff(old, old).None())
	got := Diff(old, load("member.labels = { zone = 'a' }\n[placement.b]\nn = 2\n[placement.c]\n[sandbox.vm]\nstrategy = 'sandbox-x'\n[cluster]\nbind = 'a:2'\n[supervisor]\nplacement = 'c'\n"))
	assert.Equal(t, Changes{
		Placements: SectionChanges{Added: []string{"c"}, Removed: []string{"a"}, Changed: []string{"b"}},
		Sandboxes:  SectionChanges{Changed: []string{"vm"}},
		Live:       []string{"member.labels", "supervisor.placement"},
		Restart:    []string{"cluster.bind"},
	}, got)
	assert.False(t, Diff(old, load("[placement.a]\n[placement.b]\nn = 1\n[cluster]\nbind = 'a:1'\n")).None(), "only a sandbox strategy")
}
