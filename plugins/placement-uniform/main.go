// Command placement-uniform spreads children evenly over all members; see package placementuniform.
package main

import (
	"github.com/debughost/debughost/plugins/placement-uniform/placementuniform"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(placementuniform.New(version)) }
