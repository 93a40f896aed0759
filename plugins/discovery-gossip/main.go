// Command discovery-gossip finds members by heartbeats, and BEAM nodes by
// libcluster's; see package discoverygossip.
package main

import (
	"github.com/debughost/debughost/plugins/discovery-gossip/discoverygossip"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(discoverygossip.New(version)) }
