// Package badplugin is a plugin with every defect that debughost must survive
// and that the suite of package plugintest must find. It is for tests only. A
// test binary becomes one of them when it is started under its name, which
// saves building them:
//
//	func TestMain(m *testing.M) {
//		if badplugin.Main(os.Args[0]) {
//			return
//		}
//		os.Exit(m.Run())
//	}
//
// and then, for a symbolic link to os.Executable() called
// "discovery-bad-hang", the plugin discovery-bad-hang starts and hangs.
package badplugin

import (
	"path/filepath"
	"strings"
	"time"
)

// Defects are the names of the plugins with what is wrong with each.
var Defects = map[string]string{
	"discovery-bad-silent":   "never shakes hands",
	"discovery-bad-exit":     "exits at once",
	"discovery-bad-chatter":  "prints to standard output before the handshake",
	"discovery-bad-version":  "speaks only a version of the contract from the future",
	"discovery-bad-name":     "calls itself otherwise than its file",
	"discovery-bad-kind":     "is of a kind that nobody knows",
	"discovery-bad-schema":   "has a config schema that is not JSON",
	"discovery-bad-deafmute": "never answers Describe",
	"discovery-bad-lax":      "accepts any config, any number of times",
	"discovery-bad-eager":    "answers before it is configured",
	"discovery-bad-huge":     "takes messages of any size",
	"discovery-bad-panic":    "panics on a bad config and takes the process down",
	"discovery-bad-crash":    "exits at its hundredth call",
	"discovery-bad-hang":     "accepts a watch and never answers",
	"discovery-bad-garbage":  "lists nodes with impossible names, twice, in no role",
	"discovery-bad-nothing":  "sends answers that hold neither a list nor a failure",
	"discovery-bad-oversize": "sends an answer of 20 MiB",
	"discovery-bad-flood":    "sends answers as fast as it can",
	"discovery-bad-ends":     "ends the stream after the first answer",
	"discovery-bad-diff":     "sends what changed, not all there is",
	"discovery-bad-empty":    "tells a failed lookup by an empty list",
	"discovery-bad-deaf":     "does not heed the end of a watch",
	"discovery-bad-orphan":   "outlives its host",
	"discovery-bad-sigint":   "dies of an interrupt",
	"discovery-bad-forgets":  "knows nothing any more when its host has something new to tell of itself",
	"discovery-bad-leaky":    "prints the secrets that it is told",
	"discovery-bad-die":      "exits half a second after its first answer",
	"placement-bad-random":   "chooses at random",
	"placement-bad-turns":    "takes turns, which depend on what it was asked before",
	"placement-bad-modulo":   "moves most children when the number of members changes",
	"placement-bad-restless": "counts the child itself where it runs, and sends it about without end",
	"placement-bad-dead":     "chooses a dead member",
	"placement-bad-draining": "chooses a member that is draining",
	"placement-bad-labels":   "does not heed labels",
	"placement-bad-far":      "does not heed what a child is to be near",
	"placement-bad-beside":   "does not heed what a child is to be apart from",
	"placement-bad-always":   "chooses when nobody is alive",
	"placement-bad-nothing":  "answers nothing when nobody may be chosen",
	"placement-bad-wordless": "gives no reason for a refusal",
	"placement-bad-stops":    "has children stopped for want of a candidate",
	"placement-bad-mute":     "explains nothing",
	"placement-bad-worse":    "does not choose the member that it scores highest",
	"placement-bad-slow":     "takes its time with many members",
	"placement-bad-order":    "chooses by the order of the members",
	"sandbox-bad-forget":     "recovers nothing",
	"sandbox-bad-leak":       "does not destroy",
	"sandbox-bad-twice":      "creates the same sandbox twice",
	"sandbox-bad-amnesia":    "makes up sandboxes that it does not know",
	"sandbox-bad-wait":       "does not wait",
	"sandbox-bad-logs":       "logs half lines to nowhere",
	"sandbox-bad-snapshot":   "takes snapshots that restore nothing",
	"sandbox-bad-reload":     "does not say which sandboxes it cannot reload",
	"sandbox-bad-operate":    "does whatever it is asked",
	"sandbox-bad-stop":       "does not stop",
	"sandbox-bad-litter":     "leaves files behind",
	"sandbox-bad-immortal":   "lets orphans live",
	"sandbox-bad-unnoticed":  "does not notice the end of a sandbox",
	"sandbox-bad-speechless": "does not say what ended a sandbox",
	"sandbox-bad-halfborn":   "keeps what it could not create",
}

// Main is the plugin whose file name is the base of argv0. It returns false if
// there is none of that name.
func Main(argv0 string) bool {
	name := filepath.Base(argv0)
	if _, ok := Defects[name]; !ok {
		return false
	}
	kind, mode, _ := strings.Cut(name, "-bad-")
	switch kind {
	case "discovery":
		serveRaw(name, mode)
	case "placement":
		servePlacement(name, mode)
	case "sandbox":
		serveSandbox(name, mode)
	}
	return true
}

// forever blocks for longer than any test.
func forever() { time.Sleep(time.Hour) }
