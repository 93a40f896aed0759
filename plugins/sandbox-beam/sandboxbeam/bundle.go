//go:build unix

package sandboxbeam

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/debughost/debughost/sdk"
)

// unpack puts what is in a bundle, a tar archive compressed by gzip, into a new
// directory. Whatever is in it, nothing is written elsewhere, and no more than a
// source may have.
func unpack(bundle, to string) error {
	f, err := os.Open(bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpackTo(root, f); err != nil {
		return fmt.Errorf("unpack the bundle: %w", err)
	}
	return nil
}

func unpackTo(root *os.Root, r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	left := int64(maxSource)
	archive := tar.NewReader(io.LimitReader(z, maxSource+maxFiles<<10))
	for files := 0; ; files++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		switch {
		case !filepath.IsLocal(name):
			return fmt.Errorf("%.200q is not within it", h.Name)
		case files >= maxFiles || h.Size > left:
			return fmt.Errorf("it has more than %d files or %d MB", maxFiles, maxSource>>20)
		}
		left -= h.Size
		if dir := filepath.Dir(name); dir != "." {
			if err := root.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case tar.TypeReg:
			err = unpackFile(root, name, h, archive)
		case tar.TypeSymlink:
			// Where it leads in the end is looked at when it is followed.
			if path.IsAbs(h.Linkname) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), h.Linkname)) {
				return fmt.Errorf("%.200q is a link to %.200q, which is not within it", h.Name, h.Linkname)
			}
			err = root.Symlink(h.Linkname, name)
		default:
			err = fmt.Errorf("%.200q is neither a file nor a directory nor a symbolic link", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|os.FileMode(h.Mode)&0o100)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// source is what a sandbox is made of, as it lies on this machine.
type source struct {
	kind   kind
	path   string // absolute; empty for an empty one
	shown  string // as the user knows it
	within string // links may lead to what is in here
}

// open finds a sandbox's source; a bundle is unpacked into dir, which is not there yet.
func open(spec sdk.SandboxSpec, n Node, dir string) (source, error) {
	if spec.Bundle == "" {
		if n.Source != "" && !filepath.IsAbs(n.Source) {
			return source{}, sdk.Invalid("source", "want an absolute path: the member that runs it may be any")
		}
		what, err := kindOf(n.Source, n.Source)
		return source{kind: what, path: n.Source, shown: n.Source, within: n.Source}, err
	}
	within := filepath.Clean(n.Source)
	if !filepath.IsLocal(within) {
		return source{}, sdk.Invalid("source", "with a bundle, want a path within it")
	}
	if err := unpack(spec.Bundle, dir); err != nil {
		return source{}, err
	}
	s := source{path: filepath.Join(dir, within), shown: within, within: dir}
	if n.Source == "" {
		s.shown = "the bundle"
	}
	// Links in a bundle are looked at one by one when it is unpacked; together they may
	// lead elsewhere.
	end, err := filepath.EvalSymlinks(s.path)
	if err == nil {
		var top string
		if top, err = filepath.EvalSymlinks(dir); err == nil {
			if rel, relErr := filepath.Rel(top, end); relErr != nil || !filepath.IsLocal(rel) {
				return source{}, sdk.Invalid("source", s.shown+" is not within the bundle")
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return source{}, err
	}
	s.kind, err = kindOf(s.path, s.shown)
	return s, err
}
