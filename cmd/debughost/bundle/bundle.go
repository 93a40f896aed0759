// Package bundle packs what a sandbox is to run: a directory or a file of the user's
// becomes a gzipped tar archive with relative paths. The same content gives the same
// bytes, so that a second sandbox of it finds what was made of the first.
//
// It unpacks nothing, and does not know who takes the archive.
//
//	what, err := bundle.Look("shop")
//	err = bundle.Pack(f, "shop", nil)
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of a bundle: who takes one refuses what is larger.
const (
	MaxPacked   = 64 << 20  // bytes of the archive
	MaxUnpacked = 512 << 20 // bytes of the files in it
	MaxEntries  = 100_000
)

// left are the names that are left out wherever they are: what is made of the
// sources, and what is nobody's business.
var left = []string{"_build", ".git", "node_modules", "cover", ".elixir_ls"}

// Content says what is in a directory or a file.
type Content struct {
	Kind string // exs, erl, mix, rebar3, release
	Main string // the file to run, of exs and erl: its path in the bundle
}

// ErrKind is what nothing can be made of.
var ErrKind = errors.New("it is no Mix project (mix.exs), no rebar3 project (rebar.config), no release (bin and releases), and no .exs or .erl file")

// Look finds out what is at a path.
func Look(path string) (Content, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Content{}, err
	}
	has := func(name string, dir bool) bool {
		i, err := os.Stat(filepath.Join(path, name))
		return err == nil && i.IsDir() == dir
	}
	switch ext := filepath.Ext(path); {
	case !info.IsDir() && (ext == ".exs" || ext == ".erl") && info.Mode().IsRegular():
		return Content{Kind: ext[1:], Main: filepath.Base(path)}, nil
	case !info.IsDir():
	case has("mix.exs", false):
		return Content{Kind: "mix"}, nil
	case has("rebar.config", false):
		return Content{Kind: "rebar3"}, nil
	case has("bin", true) && has("releases", true):
		return Content{Kind: "release"}, nil
	}
	return Content{}, fmt.Errorf("%s: %w", path, ErrKind)
}

// packer is the state of one Pack.
type packer struct {
	tar      *tar.Writer
	root     string
	entries  int
	size     int64
	progress func(entries int, size int64)
}

// Pack writes the archive of what is at a path, and calls progress, which may be nil,
// after each entry with how many there are by now and how many bytes they have. What
// would lead out of the directory, and what is neither file, directory nor link, is
// an error.
func Pack(w io.Writer, path string, progress func(entries int, size int64)) error {
	zip := gzip.NewWriter(&bounded{w: w, left: MaxPacked})
	p := &packer{tar: tar.NewWriter(zip), progress: progress}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("pack %s: %w", path, cause(err))
	}
	if info.IsDir() {
		p.root, err = filepath.EvalSymlinks(path)
		if err == nil {
			err = filepath.WalkDir(p.root, p.visit)
		}
	} else {
		p.root = filepath.Dir(path)
		err = p.file(path, filepath.Base(path), info)
	}
	if err == nil {
		err = errors.Join(p.tar.Close(), zip.Close())
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", path, err)
	}
	return nil
}

func (p *packer) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name, err := filepath.Rel(p.root, path)
	if err != nil || name == "." {
		return err
	}
	if slices.Contains(left, d.Name()) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	name = filepath.ToSlash(name)
	info, err := d.Info()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return p.add(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	case info.Mode().IsRegular():
		return p.file(path, name, info)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.link(path, name)
	}
	return fmt.Errorf("%s is neither a file nor a directory nor a link", name)
}

// add writes a header. Who owns an entry and how old it is does not matter.
func (p *packer) add(h *tar.Header) error {
	h.Format = tar.FormatPAX
	p.entries++
	p.size += h.Size
	switch {
	case p.entries > MaxEntries:
		return fmt.Errorf("there are more than %d files in it", MaxEntries)
	case p.size > MaxUnpacked:
		return fmt.Errorf("there are more than %d MB in it", MaxUnpacked>>20)
	}
	if p.progress != nil {
		p.progress(p.entries, p.size)
	}
	return p.tar.WriteHeader(h)
}

func (p *packer) file(path, name string, info fs.FileInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644}
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	if err := p.add(h); err != nil {
		return err
	}
	if _, err := io.CopyN(p.tar, f, h.Size); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it became shorter while it was read")
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// link takes a link as it is, if it leads to somewhere in the directory.
func (p *packer) link(path, name string) error {
	to, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if filepath.IsAbs(to) || !filepath.IsLocal(filepath.Join(filepath.Dir(filepath.FromSlash(name)), to)) {
		return fmt.Errorf("%s is a link to %s, which is not in the directory", name, to)
	}
	return p.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: filepath.ToSlash(to), Mode: 0o777})
}

// bounded fails when too much is written.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(data []byte) (int, error) {
	if b.left -= int64(len(data)); b.left < 0 {
		return 0, fmt.Errorf("it is larger than %d MB when it is packed (%s are left out already)", MaxPacked>>20, strings.Join(left, ", "))
	}
	return b.w.Write(data)
}

// cause is an error without the path that is told already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
