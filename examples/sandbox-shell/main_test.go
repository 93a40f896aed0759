package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/debughost/debughost/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandbox-shell")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugintest.Run(t, plugintest.Plugin{
		Path:     path,
		Kind:     sdk.KindSandbox,
		Spec:     &sdk.SandboxSpec{Config: []byte(`{"script": "echo hello; exec sleep 1000"}`)},
		FailSpec: &sdk.SandboxSpec{Config: []byte(`{"script": ""}`)},
	})
}
