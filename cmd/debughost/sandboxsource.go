package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/cmd/debughost/internal/bundle"
	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// origin is where the code of a sandbox comes from: this machine, a live target, or,
// where it is zero, the member that runs it has it, or there is none.
type origin struct {
	path string // absolute; a directory or a file
	node string
	apps []string // of the node; none means its own ones
}

// uploadTime bounds how long a bundle takes to a member, and from there.
const uploadTime = 5 * time.Minute

// pack makes the bundle of a path; a file is called as in it.
func (a *app) pack(from, as string) ([]byte, error) {
	defer a.overwrite("")
	var out bytes.Buffer
	var shown time.Time
	err := bundle.Pack(&out, from, as, func(files int, n int64) {
		if now := time.Now(); now.Sub(shown) > 100*time.Millisecond {
			shown = now
			a.overwrite(fmt.Sprintf("packing %s: %s, %s", from, plural(uint64(files), "file"), size(uint64(n))))
		}
	})
	return out.Bytes(), err
}

// upload sends a bundle or a seed to the member, and returns its id.
func (a *app) upload(ctx context.Context, c *control.Client, data []byte) (string, error) {
	defer a.overwrite("")
	ctx, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	r := bytes.NewReader(data)
	var shown time.Time
	id, _, err := c.UploadBlob(ctx, readerFunc(func(p []byte) (int, error) {
		if now := time.Now(); now.Sub(shown) > 100*time.Millisecond {
			shown = now
			a.overwrite(fmt.Sprintf("sending %s of %s", size(uint64(len(data)-r.Len())), size(uint64(len(data)))))
		}
		return r.Read(p)
	}))
	return id, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// download fetches a bundle and reads it.
func (a *app) download(ctx context.Context, c *control.Client, id string) ([]bundle.File, error) {
	data, err := a.downloadBytes(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return bundle.Read(bytes.NewReader(data))
}

func (a *app) downloadBytes(ctx context.Context, c *control.Client, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	out := &capped{most: bundle.MaxPacked}
	err := c.DownloadBlob(ctx, id, out)
	return out.Bytes(), err
}

// capped keeps what is written, and refuses more than so many bytes.
type capped struct {
	bytes.Buffer
	most int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.most {
		return 0, fmt.Errorf("it has more than %s", size(uint64(c.most)))
	}
	return c.Buffer.Write(p)
}

// maxNote is how much a version says of where it comes from, in bytes; more is left
// out.
const maxNote = 200

func noteOf(from string) string {
	if len(from) > maxNote {
		return ""
	}
	return from
}

// bundled puts what a sandbox is made of into its spec.
func (a *app) bundled(ctx context.Context, c *control.Client, from origin, take takeOptions, spec *controlpb.ChildSpec) error {
	var data []byte
	var note string
	var err error
	switch {
	case from.node != "":
		data, note, err = a.takeCode(ctx, c, from, take)
	case from.path != "":
		note = from.path
		data, err = a.pack(from.path, filepath.Base(from.path))
	default:
		return nil
	}
	if err != nil {
		return err
	}
	if spec.Bundle, err = a.upload(ctx, c, data); err != nil {
		return err
	}
	spec.Versions = []*controlpb.ChildVersion{{Bundle: spec.GetBundle(), Note: noteOf(note)}}
	return nil
}

// newVersion is the bundle of a path for a sandbox that runs: of compiled modules, its
// current one with these in their places.
func (a *app) newVersion(ctx context.Context, c *control.Client, spec *controlpb.ChildSpec, source, from string) ([]byte, error) {
	beams, err := beamsOf(from)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reload: %w", err)
	case len(beams) == 0:
		return a.pack(from, cmp.Or(source, filepath.Base(from)))
	}
	files, err := a.download(ctx, c, spec.GetBundle())
	if err != nil {
		return nil, err
	}
	for _, beam := range beams {
		data, err := os.ReadFile(beam)
		if err != nil {
			return nil, fmt.Errorf("reload: %w", err)
		}
		if files, err = replaceBeam(files, filepath.Base(beam), data, filepath.Base(filepath.Dir(filepath.Dir(beam)))); err != nil {
			return nil, err
		}
	}
	return packFiles(files)
}

// beamsOf are the compiled modules that a path names: one, or a directory of them.
func beamsOf(from string) ([]string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(from) == ".beam" {
		return []string{from}, nil
	}
	entries, err := os.ReadDir(from)
	if err != nil { // a file, or nothing that packing would not tell of
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".beam" {
			out = append(out, filepath.Join(from, e.Name()))
		}
	}
	return out, nil
}

// replaceBeam puts a module into the place of the one of the same name, or else among
// those of the application app.
func replaceBeam(files []bundle.File, name string, data []byte, app string) ([]bundle.File, error) {
	dir := ""
	for i, f := range files {
		switch parts := strings.Split(f.Name, "/"); {
		case len(parts) < 4 || parts[0] != "lib" || parts[2] != "ebin":
		case parts[3] == name:
			files[i].Data = data
			return files, nil
		case parts[1] == app || dir == "":
			dir = strings.Join(parts[:3], "/")
		}
	}
	if dir == "" {
		return nil, &hintedError{errors.New("reload: what it runs has no compiled modules, whose place " + name + " could take"), "--from names the directory or the file of its source"}
	}
	return append(files, bundle.File{Name: dir + "/" + name, Data: data}), nil
}

// packFiles makes a bundle of files.
func packFiles(files []bundle.File) ([]byte, error) {
	slices.SortFunc(files, func(a, b bundle.File) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	w := bundle.NewWriter(&out)
	for _, f := range files {
		if err := w.Add(f); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
