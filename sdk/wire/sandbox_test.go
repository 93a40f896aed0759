package wire

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/sdk"
	pluginpb "github.com/debughost/debughost/sdk/proto"
)

// A handle is kept on the host's disk: it has a limit.
func TestHandleIsBounded(t *testing.T) {
	_, err := sandboxHandleIn("Sandbox.Create", "box", &pluginpb.SandboxHandle{Id: "box", State: make([]byte, maxHandle+1)})
	require.ErrorIs(t, err, sdk.ErrGarbage)
	_, err = sandboxHandleIn("Sandbox.Create", "box", &pluginpb.SandboxHandle{Id: "box", State: make([]byte, maxHandle)})
	require.NoError(t, err)
}
