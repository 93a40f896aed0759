package target

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/debughost/debughost/erl/etf"
)

// Bounds of a path into a term.
const (
	maxPath      = 4096 // bytes
	maxPathSteps = 100
)

// parsePath reads a path into a term as the helper takes it: a list of
// {key, [Encoded]}, {index, N, [Encoded]}, {element, N} and {field, Name}.
//
//	.name        the value of a key of a map, struct or keyword list: the atom or
//	             the string of that name
//	."a b" .42   that of a key which is a string or an integer
//	.My.Mod :k   that of an Elixir module or atom
//	.({a, 1})    that of a key which is any literal, in Erlang's or Elixir's syntax
//	[3] [-1]     the third element of a list, and the last; of a map, that of the key 3
//	{2}          the second element of a tuple
//	#name        an element by its name, where the tuple is known to have names
//
// Keys are encoded, each as all that it may mean: so the node makes no atom of
// one that it does not have.
func parsePath(s string) (etf.List, error) {
	bad := func(at, why string) (etf.List, error) {
		return nil, hint(fmt.Errorf("read path %.80q: %w: at %.40q: %s", s, ErrBadQuery, at, why),
			`a path is like .orders[3].items{2}, ."a string", .(any literal); --help has them all`)
	}
	if len(s) > maxPath {
		return bad(s, "it is too long")
	}
	steps := etf.List{}
	rest := s
	if rest != "" && !strings.ContainsRune(".#[{", rune(rest[0])) {
		rest = "." + rest
	}
	for rest != "" {
		if len(steps) == maxPathSteps {
			return bad(rest, fmt.Sprintf("it has more than %d steps", maxPathSteps))
		}
		step, n, err := pathStep(rest)
		if err != nil {
			return bad(rest, err.Error())
		}
		steps, rest = append(steps, step), rest[n:]
	}
	return steps, nil
}

// pathStep reads the first step of a path, and tells its length.
func pathStep(s string) (step etf.Term, n int, err error) {
	switch s[0] {
	case '.':
		return keyStep(s)
	case '#':
		word := pathWord.FindString(s[1:])
		if word == "" {
			return nil, 0, fmt.Errorf("a name is missing")
		}
		return etf.Tuple{etf.Atom("field"), etf.Binary(word)}, 1 + len(word), nil
	case '[', '{':
		end := closing(s)
		if end < 0 {
			return nil, 0, fmt.Errorf("its end is missing")
		}
		inner := strings.TrimSpace(s[1:end])
		i, err := strconv.ParseInt(inner, 10, 32)
		switch {
		case err == nil && s[0] == '{':
			return etf.Tuple{etf.Atom("element"), etf.Int(i)}, end + 1, nil
		case s[0] == '{':
			return nil, 0, fmt.Errorf("the number of an element is missing")
		}
		keys, kerr := encodedKeys(inner)
		if kerr != nil {
			return nil, 0, kerr
		}
		if err == nil {
			return etf.Tuple{etf.Atom("index"), etf.Int(i), keys}, end + 1, nil
		}
		return etf.Tuple{etf.Atom("key"), keys}, end + 1, nil
	}
	return nil, 0, fmt.Errorf("a step begins with one of . [ { #")
}

var (
	pathWord  = regexp.MustCompile(`^[\p{L}_][\p{L}\p{Nd}_@]*[?!]?`)
	pathAlias = regexp.MustCompile(`^[A-Z]\w*(?:\.[A-Z]\w*)*`)
	pathInt   = regexp.MustCompile(`^-?\d+`)
)

// keyStep reads a step that begins with a dot.
func keyStep(s string) (step etf.Term, n int, err error) {
	rest := s[1:]
	var literal string
	switch {
	case rest == "":
		return nil, 0, fmt.Errorf("a key is missing")
	case rest[0] == '(':
		end := closing(rest)
		if end < 0 {
			return nil, 0, fmt.Errorf("its end is missing")
		}
		literal, n = rest[1:end], end+1
	case rest[0] == '"' || rest[0] == '\'':
		end := quoteEnd(rest)
		if end < 0 {
			return nil, 0, fmt.Errorf("its end is missing")
		}
		literal, n = rest[:end+1], end+1
	case rest[0] == ':':
		if len(rest) > 1 && rest[1] == '"' {
			if n = quoteEnd(rest[1:]) + 2; n < 2 {
				return nil, 0, fmt.Errorf("its end is missing")
			}
		} else {
			n = 1 + len(pathWord.FindString(rest[1:]))
		}
		literal = rest[:n]
	case pathAlias.MatchString(rest):
		literal = pathAlias.FindString(rest)
		n = len(literal)
	case pathInt.MatchString(rest):
		literal = pathInt.FindString(rest)
		n = len(literal)
	default:
		word := pathWord.FindString(rest)
		if word == "" {
			return nil, 0, fmt.Errorf("a key is missing; one of other characters goes into .(…)")
		}
		keys, err := encodedTerms(etf.Atom(word), etf.Binary(word))
		return etf.Tuple{etf.Atom("key"), keys}, 1 + len(word), err
	}
	keys, err := encodedKeys(literal)
	return etf.Tuple{etf.Atom("key"), keys}, 1 + n, err
}

// encodedKeys is what a literal means in Elixir and in Erlang.
func encodedKeys(literal string) (etf.List, error) {
	var terms []etf.Term
	elixir, err := etf.Parse(literal, etf.Elixir)
	if err == nil {
		terms = append(terms, elixir)
	}
	erlang, erlErr := etf.Parse(literal, etf.Erlang)
	if erlErr == nil {
		terms = append(terms, erlang)
	}
	if len(terms) == 0 {
		return nil, fmt.Errorf("%q is no literal: %w", literal, erlErr)
	}
	return encodedTerms(terms...)
}

func encodedTerms(terms ...etf.Term) (etf.List, error) {
	var out etf.List
	for _, t := range terms {
		b, err := etf.Encode(t)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(e etf.Term) bool { return string(e.(etf.Binary)) == string(b) }) {
			out = append(out, etf.Binary(b))
		}
	}
	return out, nil
}

// closing finds the bracket that closes the one which s begins with.
func closing(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth == 0 {
				return i
			}
		case '"', '\'':
			n := quoteEnd(s[i:])
			if n < 0 {
				return -1
			}
			i += n
		}
	}
	return -1
}

// quoteEnd finds the end of the text in quotes that s begins with.
func quoteEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i
		}
	}
	return -1
}

var plainWord = regexp.MustCompile(`^[a-z_][A-Za-z0-9_]*[?!]?$`)

// keyPath is the step to the value of a key, as parsePath reads it.
func keyPath(key etf.Term, o etf.PrintOptions) string {
	o.MaxBytes, o.Width = 0, 0
	text := etf.Format(key, o)
	switch k := key.(type) {
	case etf.Atom:
		if plainWord.MatchString(string(k)) {
			return "." + string(k)
		}
		if pathAlias.FindString(text) == text {
			return "." + text
		}
	case etf.Int:
		return "." + text
	case etf.Binary:
		if strings.HasPrefix(text, `"`) {
			return "." + text
		}
	}
	return ".(" + text + ")"
}
