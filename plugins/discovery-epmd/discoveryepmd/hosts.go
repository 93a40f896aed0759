package discoveryepmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/debughost/debughost/sdk"
)

// hostsName is the file that net_adm:host_file/0 looks for.
const hostsName = ".hosts.erlang"

// maxHostsFile bounds a file, in bytes.
const maxHostsFile = 1 << 20

// hostsFile reads the file again when it has changed.
type hostsFile struct {
	path  string // empty is by search
	last  fs.FileInfo
	hosts []string
}

// read returns the hosts of the file. When that fails it returns those of the
// last time too.
func (f *hostsFile) read() ([]string, error) {
	path, info, err := f.find()
	if err != nil {
		return f.hosts, err
	}
	if f.last != nil && os.SameFile(f.last, info) && f.last.ModTime().Equal(info.ModTime()) && f.last.Size() == info.Size() {
		return f.hosts, nil
	}
	if info.Size() > maxHostsFile || !info.Mode().IsRegular() {
		return f.hosts, fmt.Errorf("read hosts: %s is not a file of at most %d bytes", path, maxHostsFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return f.hosts, fmt.Errorf("read hosts: %w", err)
	}
	hosts, err := parseHosts(data)
	if err != nil {
		return f.hosts, sdk.WithHint(fmt.Errorf("read hosts: %s: %w", path, err), "each line is one host in quotes with a full stop: 'db1.example.org'.")
	}
	f.last, f.hosts = info, hosts
	return hosts, nil
}

func (f *hostsFile) find() (string, fs.FileInfo, error) {
	if f.path != "" {
		info, err := os.Stat(f.path)
		if err != nil {
			return "", nil, fmt.Errorf("find hosts: %w", err)
		}
		return f.path, info, nil
	}
	var looked []string
	for _, dir := range hostsDirs() {
		path := filepath.Join(dir, hostsName)
		looked = append(looked, path)
		info, err := os.Stat(path)
		if err == nil {
			return path, info, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("find hosts: %w", err)
		}
	}
	return "", nil, sdk.WithHint(fmt.Errorf("find hosts: there is no %s", strings.Join(looked, ", no ")), "name the file by hosts_file, or the machines by hosts")
}

// hostsDirs are where net_adm:host_file/0 looks: the working directory, the
// home directory, and the root of OTP.
func hostsDirs() []string {
	var dirs []string
	if dir, err := os.Getwd(); err == nil {
		dirs = append(dirs, dir)
	}
	if dir, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, dir)
	}
	for _, env := range []string{"ROOTDIR", "ERL_ROOTDIR"} {
		if dir := os.Getenv(env); dir != "" {
			return append(dirs, dir)
		}
	}
	// The usual erl is a link to the bin directory of the root.
	if erl, err := exec.LookPath("erl"); err == nil {
		if erl, err = filepath.EvalSymlinks(erl); err == nil {
			dirs = append(dirs, filepath.Dir(filepath.Dir(erl)))
		}
	}
	return dirs
}

// parseHosts reads what file:consult/1 would read from a file of atoms: each
// ends with a full stop, and a % begins a comment.
func parseHosts(data []byte) ([]string, error) {
	p := hostsParser{rest: string(data), line: 1}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	hosts := []string{}
	seen := map[string]bool{}
	for p.skip(); p.rest != ""; p.skip() {
		host, err := p.atom()
		if err == nil {
			err = p.stop(host)
		}
		if err == nil {
			err = checkHost(host)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		if !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

type hostsParser struct {
	rest string
	line int
}

// skip passes over white space and comments.
func (p *hostsParser) skip() {
	for p.rest != "" {
		switch {
		case p.rest[0] == '%':
			end := strings.IndexByte(p.rest, '\n')
			if end < 0 {
				end = len(p.rest)
			}
			p.rest = p.rest[end:]
		case p.rest[0] == '\n':
			p.line++
			p.rest = p.rest[1:]
		case p.rest[0] <= ' ':
			p.rest = p.rest[1:]
		default:
			return
		}
	}
}

// atom reads 'db1.example.org' or db1.
func (p *hostsParser) atom() (string, error) {
	if p.rest[0] != '\'' {
		end := strings.IndexFunc(p.rest, func(r rune) bool {
			return r != '_' && r != '@' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
		if end < 0 {
			end = len(p.rest)
		}
		atom := p.rest[:end]
		if atom == "" || atom[0] < 'a' || atom[0] > 'z' {
			return "", fmt.Errorf("%.20q does not begin an atom", p.rest)
		}
		p.rest = p.rest[end:]
		return atom, nil
	}
	var atom strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '\'':
			p.rest = p.rest[i+1:]
			return atom.String(), nil
		case '\n':
			return "", errors.New("the quote is not closed")
		case '\\': // no host name needs one
			return "", errors.New(`a \ has no place in a host name`)
		default:
			atom.WriteByte(c)
		}
	}
	return "", errors.New("the quote is not closed")
}

// stop reads the full stop behind an atom.
func (p *hostsParser) stop(atom string) error {
	line := p.line
	p.skip()
	if !strings.HasPrefix(p.rest, ".") {
		p.line = line
		return fmt.Errorf("there is no full stop behind %s", atom)
	}
	if p.rest = p.rest[1:]; p.rest != "" && p.rest[0] > ' ' && p.rest[0] != '%' {
		return fmt.Errorf("the name %s goes on behind its full stop; a name with dots needs quotes", atom)
	}
	return nil
}
