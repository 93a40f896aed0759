package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

// The page on placement has every key of every strategy, with its default, and
// no other.
func TestPlacementPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../docs/placement.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `([^`]+)` \\|")
	seen := 0
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		name, _, _ := strings.Cut(section, "\n")
		strategy, ok := find(name)
		require.True(t, ok, name)
		shown := map[string]string{}
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			shown[m[1]] = m[2]
		}
		raw, err := sdk.ConfigSchema(strategy.Describe().Config)
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
		require.Equal(t, want, shown, name)
		seen++
	}
	require.Equal(t, len(placements), seen)
}
