//go:build unix

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// spawnTime bounds the start of a keeper. Most of it would be the sweep after one
// that was killed.
const spawnTime = 15 * time.Second

// spawn starts a keeper and returns when it serves, in the strongest isolation
// that is allowed here. One that finds another at work ends with an error.
func spawn(ctx context.Context, o Options) (Isolation, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, childrenDir), 0o700); err != nil {
		return "", fmt.Errorf("start keeper: %w", err)
	}
	kinds := isolations()
	if o.NoNamespace {
		kinds = []Isolation{NoNamespace}
	}
	var errs []error
	for _, kind := range kinds {
		err := spawnAs(ctx, o, kind)
		if err == nil {
			for _, err := range errs {
				o.Log(true, "", err.Error())
			}
			return kind, nil
		}
		errs = append(errs, fmt.Errorf("start keeper in a %s: %w", kind, err))
	}
	return "", errors.Join(errs...)
}

func spawnAs(ctx context.Context, o Options, kind Isolation) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	options, err := json.Marshal(serverOptions{Dir: o.Dir, Isolation: kind, NoCgroup: o.NoCgroup, NoTrace: o.NoTrace, Idle: o.Idle})
	if err != nil {
		return err
	}
	printed, err := os.OpenFile(filepath.Join(o.Dir, errorFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer printed.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{os.Args[0], mainWord, o.Dir}, Dir: "/",
		Env:    []string{"GOTRACEBACK=single", optionsEnv + "=" + string(options)},
		Stdout: printed, Stderr: printed, ExtraFiles: []*os.File{w}, SysProcAttr: kind.sysProcAttr(),
	}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // ends with the keeper, or with this process
	limit := time.Now().Add(spawnTime)
	if end, ok := ctx.Deadline(); ok && end.Before(limit) {
		limit = end
	}
	_ = r.SetReadDeadline(limit)
	said, err := io.ReadAll(io.LimitReader(r, 4<<10))
	switch {
	case string(said) == readyWord:
		return nil
	case err != nil:
		_ = cmd.Process.Kill()
		return fmt.Errorf("wait for it: %w", err)
	case len(said) == 0:
		return fmt.Errorf("it ended at once: %s", lastWords(o.Dir))
	}
	return errors.New(string(said))
}

// lastWords is what a keeper printed, which is nothing unless it crashed.
func lastWords(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, errorFile))
	if err != nil || len(data) == 0 {
		return "without a word"
	}
	return strings.TrimSpace(string(data[:min(len(data), 2<<10)]))
}
