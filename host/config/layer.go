package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	gotoml "github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"github.com/debughost/debughost"
)

// maxFile bounds the size of a configuration file in bytes.
const maxFile = 1 << 20

// systemFile is read when nothing names another. A variable for the tests.
var systemFile = "/etc/debughost/config.toml"

// layer is one source: a tree of values, and where each came from.
type layer struct {
	name  string // how people know it
	tree  map[string]any
	base  string                         // the directory where its relative paths start
	where func(key string) (string, int) // the origin of a key in people's words, and its line
	text  bool                           // all values are text and stand for their type
}

type layers []layer

// layers reads the sources, the weakest first.
func (src Sources) layers(problems *Problems) layers {
	environ := src.Env
	if environ == nil {
		environ = os.Environ()
	}
	ls := layers{defaults()}
	if l, ok := fileLayer(src.File, environ, problems); ok {
		ls = append(ls, l)
	}
	ls = append(ls, envLayer(environ, problems))
	if src.Flags != nil {
		ls = append(ls, flagLayer(src.Flags, problems))
	}
	return ls
}

func defaults() layer {
	tree, err := toml.Parser().Unmarshal([]byte(debughost.ReferenceConfig))
	if err != nil {
		panic(err) // compiled in, and tested
	}
	return layer{name: "defaults", tree: tree, where: func(string) (string, int) { return "", 0 }}
}

// file returns the path of the file among the layers, or "".
func (ls layers) file() string {
	for _, l := range ls {
		if l.base != "" && !l.text {
			return l.name
		}
	}
	return ""
}

// problem makes a Problem with the place that set the key last.
func (ls layers) problem(key, hint, format string, args ...any) Problem {
	p := Problem{Key: key, Msg: fmt.Sprintf(format, args...), Hint: hint}
	for _, l := range slices.Backward(ls) {
		if exists(l.tree, strings.Split(key, ".")) {
			p.Origin, p.Line = l.where(key)
			break
		}
	}
	return p
}

func exists(tree map[string]any, path []string) bool {
	v, ok := tree[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	sub, ok := v.(map[string]any)
	return ok && exists(sub, path[1:])
}

// mergeInto lays the layer over what k has. Topologies are not merged but
// replaced, since there would be no way to get rid of the built-in one.
func (l layer) mergeInto(k *koanf.Koanf) error {
	if _, ok := l.tree["topologies"]; ok {
		k.Delete("topologies")
	}
	return k.Load(confmap.Provider(l.tree, ""), nil)
}

func fileLayer(path string, environ []string, problems *Problems) (layer, bool) {
	if path == "" {
		for _, v := range environ {
			if value, ok := strings.CutPrefix(v, "DEBUGHOST_CONFIG="); ok {
				path = value
			}
		}
	}
	optional := path == ""
	if optional {
		path = systemFile
	}
	path, err := filepath.Abs(path)
	if err != nil {
		problems.add(Problem{Origin: path, Msg: err.Error()})
		return layer{}, false
	}
	data, err := readFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return layer{}, false
	}
	if err != nil {
		problems.add(Problem{Origin: path, Msg: err.Error()})
		return layer{}, false
	}
	tree, err := toml.Parser().Unmarshal(data)
	if err != nil {
		problems.add(syntaxProblem(path, data, err))
		return layer{}, false
	}
	lines := indexLines(data)
	return layer{name: path, tree: tree, base: filepath.Dir(path), where: func(key string) (string, int) {
		if n := lines.of(key); n > 0 {
			return fmt.Sprintf("%s:%d", path, n), n
		}
		return path, 0
	}}, true
}

// syntaxProblem says where a file stops being TOML. The parser tells the line
// of everything but of what is there twice.
func syntaxProblem(path string, data []byte, err error) Problem {
	p := Problem{Origin: path, Line: indexLines(data).twice, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	var syntax *gotoml.DecodeError
	if errors.As(err, &syntax) {
		row, column := syntax.Position()
		p.Key, p.Line = strings.Join(syntax.Key(), "."), row
		p.Msg = fmt.Sprintf("column %d: %s", column, p.Msg)
	}
	if p.Line > 0 {
		p.Origin = fmt.Sprintf("%s:%d", path, p.Line)
	}
	return p
}

// readFile reads a configuration file. One that anybody may write to would let
// them choose which programs the host runs.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, cause(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("mode %04o lets everybody change it (chmod o-w it)", info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}

// cause takes the path out of an error that is shown beside the path.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

const envPrefix = "DEBUGHOST_"

// EnvName returns the environment variable for a key: DEBUGHOST_LOG_LEVEL for
// log.level.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// FlagName returns the flag for a key, without its dashes: log-level for
// log.level, targets-cookie-file for targets.cookie_file. A few are shorter:
// name, join and profile.
func FlagName(key string) string {
	if short := shortFlags[key]; short != "" {
		return short
	}
	return LongFlagName(key)
}

// LongFlagName returns the flag for a key as the rule has it, also where it has
// a shorter one: member-name for member.name.
func LongFlagName(key string) string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

// reserved are variables of ours that are not keys.
var reserved = []string{"DEBUGHOST_CONFIG", "DEBUGHOST_DATA_DIR", "DEBUGHOST_ADDR", "DEBUGHOST_OTP"}

// envLayer takes the variables that are called like a key. An unknown one is a
// problem where it looks like a key, by its section or by its spelling; others
// that merely begin the same, such as those that Kubernetes sets for a service
// called debughost, are left alone. An empty value is as good as none.
func envLayer(environ []string, problems *Problems) layer {
	byName := map[string]string{}
	names := slices.Clone(reserved)
	for _, key := range simpleKeys {
		byName[EnvName(key)] = key
		names = append(names, EnvName(key))
	}
	provider := env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key, known := byName[name]
			if value == "" {
				return "", nil
			}
			if !known {
				checkEnvName(name, names, problems)
			}
			return key, value
		},
	})
	tree, err := provider.Read()
	if err != nil {
		problems.add(Problem{Origin: "environment", Msg: err.Error()})
	}
	return layer{name: "environment", tree: tree, base: workingDir(), text: true, where: func(key string) (string, int) {
		return "environment variable " + EnvName(key), 0
	}}
}

func checkEnvName(name string, names []string, problems *Problems) {
	if slices.Contains(reserved, name) {
		return
	}
	p := Problem{Origin: "environment variable " + name, Msg: "no such key"}
	rest := strings.TrimPrefix(name, envPrefix)
	section, key, _ := strings.Cut(strings.ToLower(rest), "_")
	switch meant := closest(name, names); {
	case isSecret(key):
		p.Hint = secretHint
	case slices.Contains([]string{"topologies", kindPlacement, kindSandbox}, section) || name == EnvName("targets.cookies") || name == EnvName("targets.tls") || name == EnvName("targets.ssh") || name == EnvName("plugins.checksums"):
		p.Hint = "this can be set in the file only"
	case meant != "":
		p.Hint = "do you mean " + meant + "?"
	case !slices.Contains(sections, section):
		return
	}
	problems.add(p)
}

// flagLayer takes the flags that were given and are called like a key.
func flagLayer(flags *pflag.FlagSet, problems *Problems) layer {
	byName := map[string]string{}
	for _, key := range simpleKeys {
		byName[FlagName(key)] = key
	}
	tree, err := posflag.ProviderWithFlag(flags, ".", nil, func(f *pflag.Flag) (string, any) {
		if f.Changed {
			if list, ok := f.Value.(pflag.SliceValue); ok {
				return byName[f.Name], list.GetSlice()
			}
			return byName[f.Name], f.Value.String()
		}
		return "", nil
	}).Read()
	if err != nil {
		problems.add(Problem{Origin: "flags", Msg: err.Error()})
	}
	return layer{name: "flags", tree: tree, base: workingDir(), text: true, where: func(key string) (string, int) {
		return "flag --" + FlagName(key), 0
	}}
}

func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return dir
}
