// Command debughost-plugins is all bundled plugins in one file. It is
// installed once, with a link for each plugin by that plugin's name, and is
// the plugin that it is started as: processes of one file share their pages in
// memory. Each plugin also builds alone, from its own directory.
//
// It is not a way to add plugins: those of others are files of their own.
package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/debughost/debughost/plugins/discovery-epmd/discoveryepmd"
	"github.com/debughost/debughost/plugins/discovery-gossip/discoverygossip"
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/plugins/placement-quorum/placementquorum"
	"github.com/debughost/debughost/plugins/placement-random/placementrandom"
	"github.com/debughost/debughost/plugins/placement-resources/placementresources"
	"github.com/debughost/debughost/plugins/placement-uniform/placementuniform"
	"github.com/debughost/debughost/plugins/sandbox-beam/sandboxbeam"
	"github.com/debughost/debughost/plugins/sandbox-process/sandboxprocess"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

// plugins are the strategies by name.
var plugins = map[string]func(version string) sdk.Strategy{
	discoveryepmd.Name:      discoveryepmd.New,
	discoverygossip.Name:    discoverygossip.New,
	placementquorum.Name:    placementquorum.New,
	placementrandom.Name:    placementrandom.New,
	placementresources.Name: placementresources.New,
	placementuniform.Name:   placementuniform.New,
	sandboxbeam.Name:        sandboxbeam.New,
	sandboxprocess.Name:     sandboxprocess.New,
}

func main() {
	if keeper.Main() { // started by a sandbox plugin
		return
	}
	strategy, ok := find(os.Args[0])
	if !ok {
		usage(os.Stderr)
		os.Exit(2)
	}
	sdk.Serve(strategy)
}

// find returns the plugin of a file's name.
func find(file string) (sdk.Strategy, bool) {
	makeStrategy, ok := plugins[strings.TrimSuffix(filepath.Base(file), ".exe")]
	if !ok {
		return nil, false
	}
	return makeStrategy(version), true
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "This file holds plugins of debughost and is started by debughost under their names. Link it as one of:\n")
	for _, name := range slices.Sorted(maps.Keys(plugins)) {
		fmt.Fprintf(w, "  %s\n", name)
	}
}
