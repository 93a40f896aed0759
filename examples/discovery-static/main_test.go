package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "discovery-static")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugintest.Run(t, plugintest.Plugin{
		Path:   path,
		Kind:   sdk.KindDiscovery,
		Config: `{"nodes": ["shop@db1", "shop@db2"]}`,
	})
}
