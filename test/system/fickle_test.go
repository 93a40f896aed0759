package system

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/test/rig"
)

// TestMain makes this program the plugin placement-fickle where it is started under
// that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "placement-fickle" {
		sdk.Serve(&fickle{})
		return
	}
	rig.Main(m)
}

// fickle is a placement strategy that fails as its config says.
type fickle struct {
	config struct {
		Mode string `json:"mode" doc:"how it fails: hang, crash, garbage; or not: empty"`
	}
}

var _ sdk.Placement = (*fickle)(nil)

func (f *fickle) Describe() sdk.Info {
	return sdk.Info{Name: "placement-fickle", Version: "1", Config: &f.config}
}

func (f *fickle) Choose(ctx context.Context, r sdk.PlacementRequest) (sdk.Decision, error) {
	switch f.config.Mode {
	case "hang":
		select {} // whatever its caller says
	case "crash":
		os.Exit(3)
	case "garbage":
		return sdk.Decision{Member: "nobody", Scores: []sdk.Score{{Member: "nobody"}}}, nil
	}
	scores := make([]sdk.Score, len(r.Members))
	for i, m := range r.Members {
		scores[i] = sdk.Score{Member: m.Name, Excluded: r.Excludes(m)}
	}
	return r.Best(scores)
}
