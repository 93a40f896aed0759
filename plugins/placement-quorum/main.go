// Command placement-quorum spreads children evenly where a majority of the members is alive; see package placementquorum.
package main

import (
	"github.com/debughost/debughost/plugins/placement-quorum/placementquorum"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(placementquorum.New(version)) }
