//go:build unix

// Command sandbox-beam runs BEAM nodes as sandboxes; see package sandboxbeam.
package main

import (
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/plugins/sandbox-beam/sandboxbeam"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() {
	if keeper.Main() {
		return
	}
	sdk.Serve(sandboxbeam.New(version))
}
