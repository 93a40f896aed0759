package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "placement-fewest")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugintest.Run(t, plugintest.Plugin{Path: path, Kind: sdk.KindPlacement})
}

func TestAllGetTheSame(t *testing.T) {
	c := plugintest.Cluster{Strategy: fewest{}, Members: []sdk.Member{
		{Name: "a", State: sdk.MemberAlive}, {Name: "b", State: sdk.MemberAlive}, {Name: "c", State: sdk.MemberAlive},
	}}
	for i := range 30 {
		if err := c.Place(t.Context(), sdk.ChildSpec{ID: fmt.Sprint("box-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, member := range c.Members {
		if n := c.Count()[member.Name]; n != 10 {
			t.Errorf("%s has %d of 30 children, want 10", member.Name, n)
		}
	}
}
