package config

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

// simpleKeys are the keys that have one value or a list of values, and so can
// be set by environment and flag; lists are those with a list, shortFlags those
// whose flag is not called like them. sections are the first parts of all keys.
var simpleKeys, sections, lists, shortFlags = func() (keys, sections []string, lists map[string]bool, short map[string]string) {
	lists, short = map[string]bool{}, map[string]string{}
	for f := range fieldsOf(reflect.TypeFor[layout]()) {
		sections = append(sections, f.key)
		if f.typ.Kind() != reflect.Struct {
			continue
		}
		for sub := range fieldsOf(f.typ) {
			if simple(sub) {
				key := f.key + "." + sub.key
				keys = append(keys, key)
				lists[key] = sub.typ.Kind() == reflect.Slice || sub.typ.Kind() == reflect.Map
				if name := sub.tag.Get("flag"); name != "" {
					short[key] = name
				}
			}
		}
	}
	return keys, sections, lists, short
}()

// simple reports whether a key's value can be written in one word. Of tables only
// labels can, as NAME=VALUE.
func simple(f field) bool {
	switch f.typ.Kind() {
	case reflect.Slice:
		return f.typ.Elem().Kind() == reflect.String
	case reflect.Map:
		return f.tag.Get("kind") == "tag"
	}
	return true
}

// IsList tells whether a key has a list of values.
func IsList(key string) bool { return lists[key] }

// Keys returns all keys that an environment variable or a flag can set.
func Keys() []string { return slices.Clone(simpleKeys) }

// field is one key of a section.
type field struct {
	key string
	typ reflect.Type
	tag reflect.StructTag
}

func fieldsOf(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for f := range t.Fields() {
			if key := f.Tag.Get("koanf"); key != "" && !yield(field{key, f.Type, f.Tag}) {
				return
			}
		}
	}
}

// checker compares one layer with the schema. Values that are in order are put
// into the form that koanf decodes; the others become problems and leave the
// tree, so that what follows sees only sound values.
type checker struct {
	layer    layer
	problems *Problems
}

func (l layer) check(problems *Problems) {
	c := checker{l, problems}
	c.table("", l.tree, reflect.TypeFor[layout]())
}

func (c checker) problem(key, hint, format string, args ...any) {
	where, line := c.layer.where(key)
	c.problems.add(Problem{Key: key, Origin: where, Line: line, Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// table checks a section whose keys are fixed.
func (c checker) table(path string, tree map[string]any, t reflect.Type) {
	known := map[string]field{}
	for f := range fieldsOf(t) {
		known[f.key] = f
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		at := join(path, key)
		f, ok := known[key]
		if !ok {
			c.problem(at, unknownHint(path, key, known), "unknown key")
			delete(tree, key)
			continue
		}
		v, ok := c.value(at, tree[key], f.typ, f.tag)
		if !ok {
			delete(tree, key)
			continue
		}
		tree[key] = v
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		at := join(path, key)
		if _, ok := tree[key]; !ok && known[key].tag.Get("required") != "" && !c.problems.has(at) {
			where, line := c.layer.where(path)
			c.problems.add(Problem{Key: at, Origin: where, Line: line, Msg: "this key is required"})
		}
	}
}

// value checks v for type t and returns it in its final form.
func (c checker) value(at string, v any, t reflect.Type, tag reflect.StructTag) (any, bool) {
	if c.layer.text {
		v = fromText(v, t)
	}
	switch {
	case t == durationType:
		return c.duration(at, v, tag)
	case t.Kind() == reflect.Struct:
		tree, ok := v.(map[string]any)
		if !ok {
			return c.mistyped(at, "a table", v)
		}
		c.table(at, tree, t)
		return tree, true
	case t.Kind() == reflect.Map:
		return c.mapping(at, v, t, tag)
	case t.Kind() == reflect.Slice:
		return c.list(at, v, t, tag)
	case t.Kind() == reflect.Int:
		n, ok := v.(int64)
		if !ok {
			return c.mistyped(at, "a whole number", v)
		}
		if least, err := strconv.ParseInt(tag.Get("min"), 10, 64); err == nil && n < least || n > math.MaxInt32 {
			c.problem(at, "", "%d is not between %d and %d", n, least, math.MaxInt32)
			return nil, false
		}
		return n, true
	}
	s, ok := v.(string)
	if !ok {
		return c.mistyped(at, "a text in quotes", v)
	}
	return c.text(at, s, tag)
}

func (c checker) mistyped(at, want string, have any) (any, bool) {
	c.problem(at, "", "want %s, have %s", want, describe(have))
	return nil, false
}

func (c checker) duration(at string, v any, tag reflect.StructTag) (any, bool) {
	s, ok := v.(string)
	if !ok {
		return c.mistyped(at, `a duration such as "500ms" or "10s"`, v)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return c.mistyped(at, `a duration such as "500ms" or "10s"`, v)
	}
	if least, err := time.ParseDuration(tag.Get("min")); err == nil && d < least {
		c.problem(at, "", "%s is less than %s", s, tag.Get("min"))
		return nil, false
	}
	return s, true
}

// mapping checks a table whose keys are free.
func (c checker) mapping(at string, v any, t reflect.Type, tag reflect.StructTag) (any, bool) {
	tree, ok := v.(map[string]any)
	if !ok && c.layer.text {
		return c.mistyped(at, "NAME=VALUE", v)
	}
	if !ok {
		return c.mistyped(at, "a table", v)
	}
	if t.Elem().Kind() == reflect.Interface { // a plugin's own
		return tree, tag.Get("kind") != "section" || c.section(at, tree)
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		sub := join(at, key)
		if !validName(key) {
			c.problem(sub, "", "want a name of letters, digits, - and _")
			delete(tree, key)
			continue
		}
		elem, ok := c.value(sub, tree[key], t.Elem(), tag)
		if !ok {
			delete(tree, key)
			continue
		}
		tree[key] = elem
	}
	return tree, true
}

// section checks the one key of a strategy's section that is ours.
func (c checker) section(at string, tree map[string]any) bool {
	plugin, ok := tree["strategy"]
	if !ok {
		return true
	}
	_, ok = c.value(join(at, "strategy"), plugin, reflect.TypeFor[string](), `kind:"plugin" required:"true"`)
	return ok
}

func (c checker) list(at string, v any, t reflect.Type, tag reflect.StructTag) (any, bool) {
	list, ok := v.([]any)
	if !ok {
		return c.mistyped(at, "a list", v)
	}
	out := make([]any, 0, len(list))
	for i, elem := range list {
		if elem, ok := c.value(fmt.Sprintf("%s[%d]", at, i), elem, t.Elem(), tag); ok {
			out = append(out, elem)
		}
	}
	return out, true
}

func (c checker) text(at, s string, tag reflect.StructTag) (any, bool) {
	if allowed := tag.Get("oneof"); allowed != "" {
		values := strings.Split(allowed, ",")
		if !slices.Contains(values, s) {
			hint := ""
			if meant := closest(s, values); meant != "" {
				hint = "do you mean " + meant + "?"
			}
			c.problem(at, hint, "%q is not one of %s", s, strings.Join(values, ", "))
			return nil, false
		}
	}
	check := kinds[tag.Get("kind")]
	if check == nil || s == "" && tag.Get("required") == "" && !strings.HasSuffix(at, "]") {
		return s, true
	}
	s, hint, err := check(s, c.layer.base)
	if err != nil {
		c.problem(at, hint, "%v", err)
		return nil, false
	}
	return s, true
}

// fromText gives a text of the environment or a flag the type that a file
// would have given it, where it can.
func fromText(v any, t reflect.Type) any {
	s, ok := v.(string)
	switch {
	case ok && t != durationType && t.Kind() == reflect.Int:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	case ok && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map):
		v = strings.Split(s, ",")
	}
	if parts, ok := v.([]string); ok && t.Kind() == reflect.Map {
		return fromPairs(parts)
	} else if ok {
		list := make([]any, len(parts))
		for i, part := range parts {
			list[i] = strings.TrimSpace(part)
		}
		return list
	}
	return v
}

// fromPairs makes the table that NAME=VALUE stand for. It is their text, which is
// no table, where one of them has no =.
func fromPairs(parts []string) any {
	table := map[string]any{}
	for _, part := range parts {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return part
		}
		table[name] = value
	}
	return table
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%.60q", v)
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	case int64, float64, bool:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%v, a date or time", v)
}

const secretHint = "a secret is only ever read from a file of its own; see cookie_file"

func isSecret(key string) bool {
	for _, word := range []string{"cookie", "secret", "password", "token"} {
		if key == word {
			return true
		}
	}
	return false
}

// unknownHint says what an unknown key may have been meant to be: a sibling
// with nearly its name, or a key of that name in another section.
func unknownHint(path, key string, siblings map[string]field) string {
	if isSecret(key) {
		return secretHint
	}
	if meant := closest(key, slices.Sorted(maps.Keys(siblings))); meant != "" {
		return "do you mean " + join(path, meant) + "?"
	}
	// The key of another section. Two sections may have it: no hint then.
	byLast := map[string][]string{}
	for _, full := range simpleKeys {
		last := full[strings.Index(full, ".")+1:]
		byLast[last] = append(byLast[last], full)
	}
	if meant := byLast[closest(key, slices.Sorted(maps.Keys(byLast)))]; len(meant) == 1 {
		return "do you mean " + meant[0] + "?"
	}
	return ""
}

// join adds a key to a path, in quotes where a bare one would be misread.
func join(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[]\" ") {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
