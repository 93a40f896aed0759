package discoverygossip

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// The page has every key, with its default, and no other.
func TestPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../../docs/discovery-gossip.md")
	require.NoError(t, err)
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		shown[m[1]] = m[2]
	}
	raw, err := sdk.ConfigSchema(New("1").Describe().Config)
	require.NoError(t, err)
	var schema struct {
		Properties map[string]struct {
			Default     json.RawMessage
			Description string
		}
	}
	require.NoError(t, json.Unmarshal(raw, &schema))
	want := map[string]string{}
	for key, p := range schema.Properties {
		want[key] = string(p.Default)
		require.NotEmpty(t, p.Description, key)
	}
	require.Equal(t, want, shown)
}
