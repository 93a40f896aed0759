// Command placement-resources places children where there is most room for them; see package placementresources.
package main

import (
	"github.com/debughost/debughost/plugins/placement-resources/placementresources"
	"github.com/debughost/debughost/sdk"
)

// version is set by the build.
var version string

func main() { sdk.Serve(placementresources.New(version)) }
