// Command discovery-epmd finds BEAM nodes by asking EPMD; see package discoveryepmd.
package main

import (
	"github.com/debughost/debughost/plugins/discovery-epmd/discoveryepmd"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(discoveryepmd.New(version)) }
