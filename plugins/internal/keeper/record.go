//go:build unix

package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/debughost/debughost/sdk"
)

// The files of a state directory.
const (
	lockFile    = "lock"   // held by the keeper while it lives
	socketFile  = "socket" // of the keeper
	errorFile   = "errors" // what the keeper printed: nothing, or why it crashed
	childrenDir = "children"
)

// The files of one command, in a directory by its id.
const (
	recordFile = "record" // what the next keeper has to know
	homeDir    = "home"
	tmpDir     = "tmp"
	logPrefix  = "log." // and a number that grows
)

// record is a command as the disk knows it. It is written before the command
// starts, so that whatever a keeper leaves, the next one finds.
type record struct {
	Token   string           `json:"token"`
	Spec    Spec             `json:"spec"`
	Mark    uint64           `json:"mark"`
	Started time.Time        `json:"started"`
	Exit    *sdk.SandboxExit `json:"exit,omitempty"`
}

func childDir(dir, id string) string { return filepath.Join(dir, childrenDir, id) }

// save replaces the record as a whole. It is not synced: it has to survive the
// keeper's end and not the machine's, for no command does.
func (r *record) save(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next := filepath.Join(dir, recordFile+".new")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, recordFile)); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func loadRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if err := r.Spec.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// makeDirs makes a command's directory. One that is there already belongs to
// another command, or could not be removed. home, if there is one, is moved there.
func makeDirs(dir, home string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory: %w (%s is there already)", sdk.ErrExists, dir)
	} else if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	var err error
	if home == "" {
		err = os.Mkdir(filepath.Join(dir, homeDir), 0o700)
	} else {
		err = os.Rename(home, filepath.Join(dir, homeDir))
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, tmpDir), 0o700)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// removeDir removes all of a command's files, also from directories that it
// made unwritable.
func removeDir(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) // it is read after this
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// leftovers are the ids of commands in a state directory, for whoever asks
// without a keeper.
func leftovers(dir string) []string {
	entries, _ := os.ReadDir(filepath.Join(dir, childrenDir))
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// diskUse adds up the bytes on disk below the directories that a command may
// write to. Files that vanish meanwhile count for nothing.
func diskUse(dir string) uint64 {
	var total uint64
	for _, sub := range []string{homeDir, tmpDir} {
		_ = filepath.WalkDir(filepath.Join(dir, sub), func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if info, err := d.Info(); err == nil {
				total += blocks(info)
			}
			return nil
		})
	}
	return total
}

// Home is the directory of its own of the command of that id, which a keeper with
// this state directory keeps.
func Home(dir, id string) string { return filepath.Join(childDir(dir, id), homeDir) }
