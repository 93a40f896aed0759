// Command placement-random places children by lot; see package placementrandom.
package main

import (
	"github.com/debughost/debughost/plugins/placement-random/placementrandom"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(placementrandom.New(version)) }
