// Package bundle makes and reads what a sandbox is made of: a tar archive compressed by
// gzip, with relative paths, that is the same, byte for byte, whenever the files are. It
// is not what runs there: a sandbox's strategy finds out what kind of project it is.
//
//	var out bytes.Buffer
//	err := bundle.Pack(&out, "./shop", "", nil) // a directory, or one file and its name
//	files, err := bundle.Read(&out)         // for a comparison
package bundle

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
	"slices"
	"strings"
	"time"
)

// What a bundle may have.
const (
	MaxPacked   = 64 << 20 // bytes
	MaxUnpacked = 512 << 20
	MaxEntries  = 100_000
)

// Error is why something cannot be put into a bundle, with advice.
type Error struct {
	Path  string // as the user knows it
	Cause string
	Tip   string
}

func (e *Error) Error() string { return fmt.Sprintf("pack %s: %s", e.Path, e.Cause) }

// Hint is what to do about it.
func (e *Error) Hint() string { return e.Tip }

// leftOut are directories and files that no source has: what compilers, version control
// and editors leave, by name, and what a path within has of it.
var leftOut = []string{
	"_build", ".git", ".hg", ".svn", "node_modules", ".elixir_ls", ".lexical", ".expert", ".vscode", ".idea", ".rebar3", ".DS_Store", "erl_crash.dump",
	".erlang.cookie",
}

func ignored(name string) bool {
	base := path.Base(name)
	return name == "cover" || name == "releases/COOKIE" || slices.Contains(leftOut, base) ||
		strings.HasSuffix(base, "~") || strings.HasPrefix(base, ".#") || strings.HasPrefix(base, "#") && strings.HasSuffix(base, "#") ||
		strings.HasPrefix(base, ".") && (strings.HasSuffix(base, ".swp") || strings.HasSuffix(base, ".swo"))
}

// isRebar tells whether a directory is a project of rebar3.
func isRebar(dir string) bool {
	_, rebar := os.Stat(filepath.Join(dir, "rebar.config"))
	_, mix := os.Stat(filepath.Join(dir, "mix.exs"))
	return rebar == nil && mix != nil
}

// fetched tells whether a directory of rebar3's _build is, or leads to, the source of a
// dependency, which rebar3 has nowhere else: of the project's own applications there are
// links, and what was compiled is compiled again.
func fetched(name, at string) bool {
	switch parts := strings.Split(name, "/"); {
	case len(parts) <= 3:
		return strings.HasPrefix("_build/default/lib/", name+"/")
	case len(parts) == 4:
		src, err := os.Lstat(filepath.Join(at, "src"))
		return err == nil && src.IsDir()
	case len(parts) == 5:
		return parts[4] != "ebin" && !ignored(name)
	}
	return !ignored(name)
}

// Pack writes the bundle of a directory, or of one file, which is called as in it.
// Links that lead out are an *Error, as is what is too large. Progress, which may be
// nil, hears how many files and bytes there are so far.
func Pack(w io.Writer, from, as string, progress func(files int, bytes int64)) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	out, rebar := NewWriter(w), isRebar(from)
	if !info.IsDir() {
		if err := out.file(as, from, info); err != nil {
			return err
		}
		return out.Close()
	}
	err = filepath.WalkDir(from, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		name, err := filepath.Rel(from, at)
		if err != nil || name == "." {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case rebar && (name == "_build" || strings.HasPrefix(name, "_build/")) && d.IsDir():
			if !fetched(name, at) {
				return fs.SkipDir
			}
		case ignored(name) && d.IsDir():
			return fs.SkipDir
		case ignored(name):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		switch {
		case d.IsDir():
			err = out.add(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, nil)
		case info.Mode()&fs.ModeSymlink != 0:
			err = out.link(name, at, from)
		case info.Mode().IsRegular():
			err = out.file(name, at, info)
		} // sockets and the like are no source
		if progress != nil {
			progress(out.entries, out.unpacked)
		}
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// Writer makes a bundle of files that are not on disk. Who wants the same bundle for
// the same files adds them in the same order.
type Writer struct {
	packed   *limited
	gzip     *gzip.Writer
	tar      *tar.Writer
	entries  int
	unpacked int64
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer {
	out := &Writer{packed: &limited{w: w, left: MaxPacked}}
	out.gzip = gzip.NewWriter(out.packed)
	out.tar = tar.NewWriter(out.gzip)
	return out
}

// Add adds a file by its path within.
func (w *Writer) Add(f File) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(f.Data))}
	switch {
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Size, h.Mode = tar.TypeSymlink, f.Link, 0, 0o777
		return w.add(h, nil)
	case f.Executable:
		h.Mode = 0o755
	}
	return w.add(h, f.Data)
}

// Close ends the bundle.
func (w *Writer) Close() error {
	return w.failed("a bundle", errors.Join(w.tar.Close(), w.gzip.Close()))
}

func (w *Writer) add(h *tar.Header, data []byte) error {
	w.entries, w.unpacked = w.entries+1, w.unpacked+int64(len(data))
	if w.entries > MaxEntries || w.unpacked > MaxUnpacked {
		return tooLarge(h.Name, fmt.Sprintf("a bundle has at most %d files and %d MB", MaxEntries, MaxUnpacked>>20))
	}
	h.Format, h.ModTime = tar.FormatPAX, time.Unix(0, 0)
	err := w.tar.WriteHeader(h)
	if err == nil {
		_, err = w.tar.Write(data)
	}
	return w.failed(h.Name, err)
}

func (w *Writer) failed(name string, err error) error {
	switch {
	case w.packed.full:
		return tooLarge(name, fmt.Sprintf("compressed, a bundle has at most %d MB", MaxPacked>>20))
	case err != nil:
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

func tooLarge(name, cause string) error {
	return &Error{name, cause, "name the directory of one project; _build, .git and node_modules are left out already"}
}

func (w *Writer) file(name, at string, info fs.FileInfo) error {
	if info.Size() > MaxUnpacked-w.unpacked {
		return tooLarge(at, fmt.Sprintf("a bundle has at most %d MB", MaxUnpacked>>20))
	}
	f, err := os.Open(at)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxUnpacked-w.unpacked+1)) // it may grow meanwhile
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return w.Add(File{Name: name, Data: data, Executable: info.Mode()&0o100 != 0})
}

// link adds a link that stays within root, as a relative one.
func (w *Writer) link(name, at, root string) error {
	to, err := os.Readlink(at)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if filepath.IsAbs(to) {
		if root, err = filepath.Abs(root); err == nil {
			to, err = filepath.Rel(filepath.Dir(filepath.Join(root, name)), to)
		}
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
	}
	if !filepath.IsLocal(filepath.Join(filepath.Dir(filepath.FromSlash(name)), to)) {
		return &Error{at, "it is a link to " + to + ", which is not within what is packed", "put a copy in its place, or name a directory that has both"}
	}
	return w.Add(File{Name: name, Link: filepath.ToSlash(to)})
}

// limited passes on so many bytes.
type limited struct {
	w    io.Writer
	left int64
	full bool
}

var errFull = errors.New("there is no room")

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		l.full = true
		return 0, errFull
	}
	return l.w.Write(p)
}

// File is an entry of a bundle that is no directory.
type File struct {
	Name       string // path within
	Data       []byte
	Executable bool
	Link       string // where it leads, from its directory; empty: it is no link
}

// Read reads a bundle that may be anybody's, into memory: its files by path. What is
// not as Pack makes it is an error.
func Read(r io.Reader) ([]File, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	left := int64(MaxUnpacked)
	in := tar.NewReader(io.LimitReader(z, MaxUnpacked+MaxEntries<<10))
	var files []File
	seen := map[string]bool{}
	for entries := 0; ; entries++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case entries >= MaxEntries || h.Size > left || h.Size < 0:
			return nil, fmt.Errorf("read bundle: it has more than %d files or %d MB", MaxEntries, MaxUnpacked>>20)
		case !filepath.IsLocal(name):
			return nil, fmt.Errorf("read bundle: %.200q is not within it", h.Name)
		}
		f := File{Name: name}
		switch h.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
			if f.Data, err = io.ReadAll(in); err != nil {
				return nil, fmt.Errorf("read bundle: %w", err)
			}
			left -= int64(len(f.Data))
			f.Executable = h.Mode&0o100 != 0
		case tar.TypeSymlink:
			f.Link = h.Linkname
		default:
			return nil, fmt.Errorf("read bundle: %.200q is neither a file nor a directory nor a link", h.Name)
		}
		if seen[name] {
			return nil, fmt.Errorf("read bundle: %.200q is in it twice", h.Name)
		}
		seen[name] = true
		files = append(files, f)
	}
}
