//go:build unix

// Command sandbox-process runs any command as a sandbox; see package sandboxprocess.
package main

import (
	"github.com/debughost/debughost/plugins/internal/keeper"
	"github.com/debughost/debughost/plugins/sandbox-process/sandboxprocess"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() {
	if keeper.Main() {
		return
	}
	sdk.Serve(sandboxprocess.New(version))
}
