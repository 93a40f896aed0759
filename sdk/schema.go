package sdk

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ConfigSchema derives the JSON Schema (draft 2020-12) of a config struct from
// its fields, their tags as DecodeConfig reads them, and its values, which are
// the defaults.
func ConfigSchema(config any) ([]byte, error) {
	root := map[string]any{"type": "object", "properties": map[string]any{}, "additionalProperties": false}
	if config != nil {
		v, err := structOf(config)
		if err != nil {
			return nil, err
		}
		if err := checkFields(v.Type(), nil); err != nil {
			return nil, err
		}
		root = schemaOf(v)
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return json.MarshalIndent(root, "", "  ")
}

// field is one key of a config struct.
type field struct {
	key, doc string
	index    []int
	required bool
	enum     []string
	min, max string // empty is no bound
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "" || key == "-" || !f.IsExported() {
			continue
		}
		out := field{key: key, doc: f.Tag.Get("doc"), index: f.Index, required: f.Tag.Get("required") == "true", min: f.Tag.Get("min"), max: f.Tag.Get("max")}
		if enum := f.Tag.Get("enum"); enum != "" {
			out.enum = strings.Split(enum, ",")
		}
		fields = append(fields, out)
	}
	return fields
}

// check returns what is wrong with a decoded value, or "".
func (f field) check(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if f.enum != nil && !slices.Contains(f.enum, fmt.Sprint(v.Interface())) {
		return fmt.Sprintf("want one of %s, have %q", strings.Join(f.enum, ", "), fmt.Sprint(v.Interface()))
	}
	have, min, max, what := f.measure(v)
	switch {
	case f.min != "" && have < min:
		return what + "want at least " + f.min
	case f.max != "" && have > max:
		return what + "want at most " + f.max
	}
	return ""
}

// measure returns what min and max bound, with the bounds in the same unit.
func (f field) measure(v reflect.Value) (have, min, max float64, what string) {
	bound := func(s string) float64 { n, _ := strconv.ParseFloat(s, 64); return n }
	switch {
	case v.Type() == durationType:
		have = float64(v.Int())
		bound = func(s string) float64 { d, _ := time.ParseDuration(s); return float64(d) }
	case v.CanInt():
		have = float64(v.Int())
	case v.CanUint():
		have = float64(v.Uint())
	case v.CanFloat():
		have = v.Float()
	case v.Kind() == reflect.Slice || v.Kind() == reflect.String || v.Kind() == reflect.Map:
		have, what = float64(v.Len()), "length: "
	}
	return have, bound(f.min), bound(f.max), what
}

// checkFields finds fields that no config can be decoded into, so that the
// author hears of them when the plugin starts.
func checkFields(t reflect.Type, above []reflect.Type) error {
	if slices.Contains(above, t) {
		return fmt.Errorf("use %v as config: it contains itself", t)
	}
	above = append(above, t)
	switch {
	case t == durationType || decodesItself(t):
		return nil
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice:
		return checkFields(t.Elem(), above)
	case t.Kind() == reflect.Map:
		if t.Key().Kind() != reflect.String {
			return fmt.Errorf("use %v as config: the keys of a map must be strings", t)
		}
		return checkFields(t.Elem(), above)
	case t.Kind() == reflect.Struct:
		for _, f := range fieldsOf(t) {
			if err := checkFields(t.FieldByIndex(f.index).Type, above); err != nil {
				return fmt.Errorf("%s: %w", f.key, err)
			}
		}
		return nil
	case t.Kind() == reflect.Bool, t.Kind() == reflect.String, t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 && t.Kind() != reflect.Uintptr:
		return nil
	}
	return fmt.Errorf("use %v as config: JSON has no such type", t)
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// schemaOf describes a struct that holds defaults.
func schemaOf(v reflect.Value) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		s := typeSchema(value)
		if f.doc != "" {
			s["description"] = f.doc
		}
		if f.enum != nil {
			s["enum"] = f.enum
		}
		f.bounds(value, s)
		if f.required {
			required = append(required, f.key)
		} else if d, ok := defaultOf(value); ok {
			s["default"] = d
		}
		properties[f.key] = s
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

// typeSchema describes the type of a value; of structs also the defaults.
func typeSchema(v reflect.Value) map[string]any {
	t := v.Type()
	switch {
	case t == durationType:
		return map[string]any{"type": "string", "format": "go-duration", "examples": []string{"500ms", "1m30s"}}
	case t.Kind() == reflect.Pointer:
		if v.IsNil() {
			v = reflect.New(t.Elem())
		}
		return typeSchema(v.Elem())
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return map[string]any{}
	case decodesItself(t), t.Kind() == reflect.String:
		return map[string]any{"type": "string"}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": typeSchema(reflect.New(t.Elem()).Elem())}
	case t.Kind() == reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": typeSchema(reflect.New(t.Elem()).Elem())}
	case t.Kind() == reflect.Struct:
		return schemaOf(v)
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case v.CanFloat():
		return map[string]any{"type": "number"}
	case v.CanUint():
		return map[string]any{"type": "integer", "minimum": 0}
	}
	return map[string]any{"type": "integer"}
}

// bounds writes min and max in the words that JSON Schema has for the type.
// It has none for durations: those go into the description.
func (f field) bounds(v reflect.Value, s map[string]any) {
	names := map[string][2]string{"integer": {"minimum", "maximum"}, "number": {"minimum", "maximum"}, "string": {"minLength", "maxLength"}, "array": {"minItems", "maxItems"}, "object": {"minProperties", "maxProperties"}}
	for i, bound := range []string{f.min, f.max} {
		if bound == "" {
			continue
		}
		if v.Type() == durationType {
			word := [2]string{"at least ", "at most "}[i]
			doc, _ := s["description"].(string)
			s["description"] = strings.TrimPrefix(doc+"; "+word+bound, "; ")
			continue
		}
		if kind, ok := s["type"].(string); ok {
			s[names[kind][i]] = json.Number(bound)
		}
	}
}

// defaultOf is a value as JSON, if it is one worth telling.
func defaultOf(v reflect.Value) (any, bool) {
	switch {
	case v.Type() == durationType:
		return time.Duration(v.Int()).String(), true
	case decodesItself(v.Type()):
		// Only what encodes itself too is sure to look as it is written.
		_, text := v.Interface().(encoding.TextMarshaler)
		_, json := v.Interface().(json.Marshaler)
		return v.Interface(), (text || json) && !v.IsZero()
	case v.Kind() == reflect.Struct:
		return nil, false // its fields tell theirs
	case v.Kind() == reflect.Pointer && v.IsNil():
		return nil, false
	case v.Kind() == reflect.Slice && v.IsNil():
		return []any{}, true
	case v.Kind() == reflect.Map && v.IsNil():
		return map[string]any{}, true
	}
	return v.Interface(), true
}
