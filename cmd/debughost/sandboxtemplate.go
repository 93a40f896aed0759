package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// shipped are the templates that come along. One of the same name in the data
// directory's templates goes before.
//
//go:embed templates/*.toml
var shipped embed.FS

// sandboxTemplate is a spec file with parameters: {{NAME}} in any of its texts.
type sandboxTemplate struct {
	Name       string                       `toml:"-"`
	About      string                       `toml:"about"`
	From       string                       `toml:"from"`         // the source; empty: none
	Target     string                       `toml:"target"`       // the node that the code is taken from; empty: none
	Apps       string                       `toml:"applications"` // of that, with commas between; none means its own
	Parameters map[string]templateParameter `toml:"parameters"`
	Spec       map[string]any               `toml:"-"` // the other keys: those of a child's spec file
	Shipped    bool                         `toml:"-"`
	Err        error                        `toml:"-"` // it cannot be read
}

type templateParameter struct {
	About   string  `toml:"about"`
	Default *string `toml:"default"` // none: it has to be given
}

// templateDir is where a user's own templates are.
func (a *app) templateDir() (string, error) {
	dir, err := a.dir()
	return filepath.Join(dir, "templates"), err
}

// templates returns all of them, by name.
func (a *app) templates() ([]sandboxTemplate, error) {
	byName := map[string]sandboxTemplate{}
	add := func(dir fs.FS, pattern, where string, own bool) error {
		files, err := fs.Glob(dir, pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			t, err := readTemplate(dir, file)
			if err != nil { // which matters to who wants this one
				t = sandboxTemplate{Err: fmt.Errorf("read template %s: %w", filepath.Join(where, file), err)}
				t.About = t.Err.Error()
			}
			t.Name, t.Shipped = strings.TrimSuffix(filepath.Base(file), ".toml"), !own
			byName[t.Name] = t
		}
		return nil
	}
	dir, err := a.templateDir()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(add(shipped, "templates/*.toml", "", false), add(os.DirFS(dir), "*.toml", dir, true)); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(byName), func(x, y sandboxTemplate) int { return strings.Compare(x.Name, y.Name) }), nil
}

func readTemplate(dir fs.FS, file string) (t sandboxTemplate, err error) {
	info, err := fs.Stat(dir, file)
	switch {
	case err != nil:
		return t, err
	case info.Size() > maxSpecFile:
		return t, fmt.Errorf("it is larger than %d bytes", maxSpecFile)
	}
	data, err := fs.ReadFile(dir, file)
	if err != nil {
		return t, err
	}
	if err = toml.Unmarshal(data, &t); err == nil {
		err = toml.Unmarshal(data, &t.Spec)
	}
	for _, key := range []string{"about", "from", "target", "applications", "parameters"} {
		delete(t.Spec, key)
	}
	return t, err
}

// fill returns the template with its parameters put in: where the code comes from, and
// the spec file.
func (t *sandboxTemplate) fill(given map[string]string) (from origin, spec []byte, err error) {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		value, ok := given[name]
		if !ok && t.Parameters[name].Default == nil {
			return from, nil, usagef("template %s: %s is missing (%s): --set %[2]s=VALUE gives it", t.Name, name, t.Parameters[name].About)
		}
		if !ok {
			value = *t.Parameters[name].Default
		}
		pairs = append(pairs, "{{"+name+"}}", value)
	}
	for name := range given {
		if _, ok := t.Parameters[name]; !ok {
			return from, nil, usagef("template %s: there is no parameter %q; it has %s", t.Name, name, orElse(strings.Join(slices.Sorted(maps.Keys(t.Parameters)), ", "), "none"))
		}
	}
	put := strings.NewReplacer(pairs...)
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).Encode(replaceTexts(t.Spec, put)); err != nil {
		return from, nil, fmt.Errorf("fill template %s: %w", t.Name, err)
	}
	from = origin{path: put.Replace(t.From), node: put.Replace(t.Target)}
	from.apps = strings.FieldsFunc(put.Replace(t.Apps), func(r rune) bool { return r == ',' || r == ' ' })
	return from, out.Bytes(), nil
}

// replaceTexts is a value with all texts in it replaced.
func replaceTexts(v any, put *strings.Replacer) any {
	switch v := v.(type) {
	case string:
		return put.Replace(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = replaceTexts(v[i], put)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = replaceTexts(v[key], put)
		}
		return out
	}
	return v
}

// templateJSON is a template in JSON; its keys are a contract.
type templateJSON struct {
	Name       string                  `json:"name"`
	About      string                  `json:"about"`
	Shipped    bool                    `json:"shipped"`
	Parameters []templateParameterJSON `json:"parameters"`
}

type templateParameterJSON struct {
	Name    string  `json:"name"`
	About   string  `json:"about"`
	Default *string `json:"default"` // null: it has to be given
}

func (a *app) sandboxTemplatesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "templates",
		Short: "Show the templates that sandboxes can be made from",
		Long: `Show the templates that come along, and your own: TOML files in the directory
templates of the data directory, each with the keys of a child's spec file and with
about, from (the source) or target and applications (the live node that the code is taken
from), and parameters, whose {{NAME}} in texts --set replaces.`,
		Example: `  debughost sandbox templates
  debughost sandbox create scratch --from empty --set app=inets`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			all, err := a.templates()
			if err != nil {
				return err
			}
			return a.printTemplates(all)
		},
	}
}

func (a *app) printTemplates(all []sandboxTemplate) error {
	l := listing[templateJSON]{
		plural: "templates", header: []string{"name", "parameters", "shipped", "about"},
		csv: func(t templateJSON) []string {
			return []string{t.Name, parametersText(t), fmt.Sprint(t.Shipped), t.About}
		},
		grid:  []column{{name: "name", least: 12}, {name: "parameters"}, {name: "about", free: true}},
		cells: func(t templateJSON) []string { return []string{t.Name, parametersText(t), t.About} },
	}
	for _, t := range all {
		row := templateJSON{Name: t.Name, About: t.About, Shipped: t.Shipped, Parameters: []templateParameterJSON{}}
		for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
			p := t.Parameters[name]
			row.Parameters = append(row.Parameters, templateParameterJSON{name, p.About, p.Default})
		}
		l.rows = append(l.rows, row)
	}
	return printListing(a, l)
}

func parametersText(t templateJSON) string {
	var out []string
	for _, p := range t.Parameters {
		if p.Default != nil {
			out = append(out, p.Name+"="+*p.Default)
		} else {
			out = append(out, p.Name)
		}
	}
	return strings.Join(out, " ")
}
