package discoveryepmd

import (
	"bufio"
	"bytes"
	"os"
	"strings"
)

// localHost guesses what stands behind the @ in the names of this machine's
// nodes. erl -sname takes the host name up to its first dot. erl -name takes
// the whole, which is looked up as OTP does: in the host name itself, in
// /etc/hosts, and by the domain of /etc/resolv.conf.
func localHost(hostname string, long bool) string {
	if hostname == "" {
		return "localhost"
	}
	short, _, dotted := strings.Cut(hostname, ".")
	switch {
	case !long:
		return short
	case dotted:
		return hostname
	}
	if full := fullName(short, readFile("/etc/hosts"), readFile("/etc/resolv.conf")); full != "" {
		return full
	}
	return short
}

// readFile is empty for a file that cannot be read: a guess does without.
func readFile(path string) []byte {
	data, _ := os.ReadFile(path)
	return data
}

// fullName finds a short name's domain.
func fullName(short string, hosts, resolv []byte) string {
	for fields := range lines(hosts) {
		for _, alias := range fields[1:] {
			if !strings.EqualFold(alias, short) {
				continue
			}
			for _, full := range fields[1:] {
				if strings.HasPrefix(strings.ToLower(full), strings.ToLower(short)+".") {
					return full
				}
			}
		}
	}
	for fields := range lines(resolv) {
		if (fields[0] == "domain" || fields[0] == "search") && len(fields) > 1 && fields[1] != "." {
			return short + "." + strings.TrimSuffix(fields[1], ".")
		}
	}
	return ""
}

// lines yields the words of each line that has any, without comments.
func lines(data []byte) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
			line, _, _ := strings.Cut(s.Text(), "#")
			if fields := strings.Fields(line); len(fields) > 0 && !yield(fields) {
				return
			}
		}
	}
}
