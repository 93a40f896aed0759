package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// kinds are the checks that a `kind` tag names. Each takes a text and the
// directory where relative paths start, and returns the text in its final form
// or an error and what to do about it.
var kinds = map[string]func(s, base string) (final, hint string, err error){
	"path": func(s, base string) (string, string, error) {
		s, err := absolute(s, base)
		return s, "", err
	},
	"dir":      checkDir,
	"secret":   checkSecret,
	"pattern":  checkPattern,
	"checksum": checkChecksum,
	"node":     checkNode,
	"plugin": func(s, _ string) (string, string, error) {
		if !validName(s) || strings.HasPrefix(s, "-") {
			return "", "the file name of a plugin, such as discovery-epmd", fmt.Errorf("%q is not the name of a plugin", s)
		}
		return s, "", nil
	},
	"addr":     checkAddr,
	"grace":    checkGrace,
	"strategy": checkStrategy,
	"tag": func(s, _ string) (string, string, error) {
		if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == ',' }) || len(s) > 63 {
			return "", "", fmt.Errorf("%.80q is not a label: no spaces or commas, and at most 63 bytes", s)
		}
		return s, "", nil
	},
	"label": func(s, _ string) (string, string, error) {
		if !validName(s) {
			return "", "", fmt.Errorf("%.140q is not the name of a cluster: letters, digits, - and _, at most 128", s)
		}
		return s, "", nil
	},
	"via": func(s, _ string) (string, string, error) {
		if strings.HasPrefix(s, "-") || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) || len(s) > 255 || s == "" {
			return "", "such as user@bastion, or a Host of your ~/.ssh/config", fmt.Errorf("%.80q is not a destination of ssh", s)
		}
		return s, "", nil
	},
	"name": func(s, _ string) (string, string, error) {
		if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) || len(s) > 128 {
			return "", "", fmt.Errorf("%.140q is not a name: no spaces, and at most 128 bytes", s)
		}
		return s, "", nil
	},
}

// absolute resolves a path. Where a layer has no base, it is left alone.
func absolute(s, base string) (string, error) {
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find home directory: %w", err)
		}
		return filepath.Join(home, rest), nil
	}
	if filepath.IsAbs(s) || base == "" {
		return filepath.Clean(s), nil
	}
	return filepath.Join(base, s), nil
}

func checkDir(s, base string) (string, string, error) {
	if s == "" {
		return "", "", errors.New("the path is empty")
	}
	s, err := absolute(s, base)
	if err != nil {
		return "", "", err
	}
	info, err := os.Stat(s)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%s: %w", s, cause(err))
	case !info.IsDir():
		return "", "", fmt.Errorf("%s: not a directory", s)
	case info.Mode().Perm()&0o002 != 0:
		return "", "chmod o-w it", fmt.Errorf("%s: mode %04o lets everybody put programs there", s, info.Mode().Perm())
	}
	return s, "", nil
}

func checkGrace(s, _ string) (string, string, error) {
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return "", "", fmt.Errorf("%.40q is neither a duration such as \"1500ms\" nor empty", s)
	}
	return s, "", nil
}

// checkStrategy accepts the name that a strategy's section has, and that its
// plugin has behind the name of its kind.
func checkStrategy(s, _ string) (string, string, error) {
	for _, kind := range []string{kindPlacement, kindSandbox} {
		if short, ok := strings.CutPrefix(s, kind+"-"); ok && short != "" {
			return "", fmt.Sprintf("write %q", short), fmt.Errorf("%.80q: a strategy is called like its section, without %s-", s, kind)
		}
	}
	if !validName(s) || strings.HasPrefix(s, "-") {
		return "", "such as uniform", fmt.Errorf("%.80q is not the name of a strategy", s)
	}
	return s, "", nil
}

func checkAddr(s, _ string) (string, string, error) {
	const example = "such as 10.0.0.1:7946, db1:7946 or [::1]:7946"
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || strings.ContainsFunc(host, unicode.IsSpace) || len(host) > 255 {
		return "", example, fmt.Errorf("%.80q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", example, fmt.Errorf("%.80q: the port is not a number up to 65535", s)
	}
	return s, "", nil
}

func checkSecret(s, base string) (string, string, error) {
	s, err := absolute(s, base)
	if err != nil {
		return "", "", err
	}
	f, err := openSecret(s)
	if err != nil {
		return "", "", err
	}
	return s, "", f.Close()
}

func checkPattern(s, _ string) (string, string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" || strings.Count(s, "@") > 1 {
		return "", `such as "shop*@*"`, fmt.Errorf("%q is not a pattern of node names", s)
	}
	return s, "", nil
}

// Match reports whether a node's full name matches a pattern: * stands for any
// characters, ? for one, [a-c] for one of them. A pattern without an @ is
// matched with the part of the name before it.
func Match(pattern, node string) bool {
	if !strings.Contains(pattern, "@") {
		node, _, _ = strings.Cut(node, "@")
	}
	ok, err := path.Match(pattern, node)
	return ok && err == nil
}

func matchAny(patterns []string, node string) bool {
	for _, p := range patterns {
		if Match(p, node) {
			return true
		}
	}
	return false
}

// Wanted reports whether include and exclude let a node be attached to.
func (t *Targets) Wanted(node string) bool {
	return (len(t.Include) == 0 || matchAny(t.Include, node)) && !matchAny(t.Exclude, node)
}

func checkChecksum(s, _ string) (string, string, error) {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if sum, err := hex.DecodeString(digits); !ok || err != nil || len(sum) != 32 {
		return "", "sha256sum FILE prints the digits", fmt.Errorf("%.80q is not sha256: with 64 hexadecimal digits", s)
	}
	return strings.ToLower(s), "", nil
}

func checkNode(s, _ string) (string, string, error) {
	name, host, at := strings.Cut(s, "@")
	bad := func(r rune) bool { return !validNameRune(r) }
	badHost := func(r rune) bool { return !validNameRune(r) && r != '.' && r != ':' }
	if name == "" || strings.ContainsFunc(name, bad) || at && (host == "" || strings.ContainsFunc(host, badHost)) || len(s) > 255 {
		return "", "such as debughost or debughost@db1", fmt.Errorf("%.80q is not a node name", s)
	}
	return s, "", nil
}

// nameSort says of a full node name whether it is short or long, and nothing
// of one without a host.
func nameSort(name string) string {
	switch _, host, ok := strings.Cut(name, "@"); {
	case !ok:
		return ""
	case strings.ContainsAny(host, ".:"):
		return "long"
	}
	return "short"
}

func validName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return !validNameRune(r) })
}

func validNameRune(r rune) bool {
	return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
