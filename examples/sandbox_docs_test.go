package examples

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// excerpt is a part of a Go file that the page shows.
var excerpt = regexp.MustCompile("(?s)<!-- excerpt: (\\S+) -->\n```go\n(.*?)```\n")

func TestPageShowsExcerptsAsTheyAre(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	found := excerpt.FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, found)
	for _, m := range found {
		source, err := os.ReadFile(m[1])
		require.NoError(t, err)
		require.Contains(t, string(source), m[2], "%s in %s", m[1], page)
	}
}
