package host

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// All members choose the same keepers of a blob, whatever order they know each other
// in, and when one is lost only what it kept gets another.
func TestKeepers(t *testing.T) {
	kept := map[string]int{}
	for i := range 300 {
		id := fmt.Sprintf("%064x", i)
		all := keepers(id, []string{"a", "b", "c"})
		require.Len(t, all, blobCopies)
		require.Equal(t, all, keepers(id, []string{"c", "a", "b"}))
		for _, m := range all {
			kept[m]++
		}
		for _, lost := range []string{"a", "b", "c"} {
			rest := slices.DeleteFunc([]string{"a", "b", "c"}, func(m string) bool { return m == lost })
			require.Subset(t, keepers(id, rest), slices.DeleteFunc(slices.Clone(all), func(m string) bool { return m == lost }))
		}
	}
	for m, n := range kept {
		require.Greater(t, n, 150, m)
	}
	require.Equal(t, []string{"a"}, keepers("x", []string{"a"}))
}
