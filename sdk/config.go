package sdk

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DecodeConfig decodes a plugin's config section, one JSON object, into the
// struct that config points to. It is what Serve does with Info.Config.
//
// A field is known by its json tag; fields without one belong to the strategy,
// not to the config. Further tags describe it to people and set limits:
//
//	doc:"for the schema"  required:"true"  enum:"a,b"  min:"1"  max:"65535"
//
// Fields may be booleans, numbers, strings, time.Duration (written "1.5s"),
// slices, maps with string keys, structs, pointers to those, and types that
// implement encoding.TextUnmarshaler or json.Unmarshaler. min and max bound a
// number, a duration, and the length of a slice or of a string.
//
// Decoding is strict: an unknown key, a key that is there twice, a value of
// another type, a number that does not fit. All problems come back at once in
// a *ConfigError, and the struct is then unchanged. Keys that are absent keep
// the struct's values, the defaults. A null is not a value.
func DecodeConfig(data []byte, config any) error {
	var problems ConfigError
	tree := parseJSON(data, &problems)
	if len(problems.Problems) > 0 {
		return &problems
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return Invalid("", "want an object, have "+describeJSON(tree))
	}
	if config == nil {
		for _, key := range sortedKeys(object) {
			problems.add(key, "unknown key; this plugin takes no config")
		}
		return problems.orNil()
	}
	target, err := structOf(config)
	if err != nil {
		return err
	}
	fresh := reflect.New(target.Type()).Elem()
	fresh.Set(target)
	d := decoder{&problems}
	d.object("", object, fresh)
	if len(problems.Problems) == 0 {
		target.Set(fresh)
	}
	return problems.orNil()
}

func structOf(config any) (reflect.Value, error) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("use %T as config: want a pointer to a struct", config)
	}
	return v.Elem(), nil
}

// maxDepth bounds the nesting of a config.
const maxDepth = 64

// parseJSON reads one value. Numbers stay text, so that none is rounded, and a
// key that comes twice is a problem.
func parseJSON(data []byte, problems *ConfigError) any {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, "", 0, problems)
	if err == nil {
		if _, err = dec.Token(); err == nil {
			err = errors.New("data after the object")
		} else if err == io.EOF {
			err = nil
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		problems.add("", fmt.Sprintf("not valid JSON at byte %d: %v", dec.InputOffset(), err))
	}
	return v
}

func parseValue(dec *json.Decoder, path string, depth int, problems *ConfigError) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := parseValue(dec, path+"["+strconv.Itoa(len(list))+"]", depth+1, problems)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			token, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key, _ := token.(string)
			at := join(path, key)
			v, err := parseValue(dec, at, depth+1, problems)
			if err != nil {
				return nil, err
			}
			if _, ok := object[key]; ok {
				problems.add(at, "the key is there twice")
			}
			object[key] = v
		}
		_, err := dec.Token()
		return object, err
	}
	return token, nil
}

// decoder collects problems and goes on, so that all are told at once.
type decoder struct{ problems *ConfigError }

func (d decoder) object(path string, object map[string]any, into reflect.Value) {
	fields := fieldsOf(into.Type())
	for _, key := range sortedKeys(object) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if i < 0 {
			d.problems.add(join(path, key), "unknown key"+suggest(key, fields))
			continue
		}
		f := fields[i]
		at := join(path, key)
		before := len(d.problems.Problems)
		d.value(at, object[key], into.FieldByIndex(f.index))
		if len(d.problems.Problems) == before {
			if msg := f.check(into.FieldByIndex(f.index)); msg != "" {
				d.problems.add(at, msg)
			}
		}
	}
	for _, f := range fields {
		if _, ok := object[f.key]; !ok && f.required {
			d.problems.add(join(path, f.key), "this key is required")
		}
	}
}

func (d decoder) value(path string, v any, into reflect.Value) {
	if v == nil && into.Type() != rawMessageType {
		d.problems.add(path, "null is not a value; leave the key out for its default")
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		d.value(path, v, into.Elem())
		return
	}
	if d.custom(path, v, into) {
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		if object, ok := d.want(path, v, "an object").(map[string]any); ok {
			d.object(path, object, into)
		}
	case reflect.Map:
		if object, ok := d.want(path, v, "an object").(map[string]any); ok {
			into.Set(reflect.MakeMapWithSize(into.Type(), len(object)))
			for _, key := range sortedKeys(object) {
				elem := reflect.New(into.Type().Elem()).Elem()
				d.value(join(path, key), object[key], elem)
				into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), elem)
			}
		}
	case reflect.Slice:
		if list, ok := d.want(path, v, "a list").([]any); ok {
			into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
			for i, elem := range list {
				d.value(path+"["+strconv.Itoa(i)+"]", elem, into.Index(i))
			}
		}
	case reflect.String:
		if s, ok := d.want(path, v, "a string").(string); ok {
			into.SetString(s)
		}
	case reflect.Bool:
		if b, ok := d.want(path, v, "true or false").(bool); ok {
			into.SetBool(b)
		}
	default:
		d.number(path, v, into)
	}
}

// want returns v if it is of the wanted shape, and else reports it and
// returns nil.
func (d decoder) want(path string, v any, shape string) any {
	if describeJSON(v) != shape {
		d.problems.add(path, "want "+shape+", have "+describeJSON(v))
		return nil
	}
	return v
}

func (d decoder) number(path string, v any, into reflect.Value) {
	n, ok := d.want(path, v, "a number").(json.Number)
	if !ok {
		return
	}
	if into.CanFloat() {
		f, err := strconv.ParseFloat(n.String(), into.Type().Bits())
		if err != nil {
			d.problems.add(path, n.String()+" does not fit")
			return
		}
		into.SetFloat(f)
		return
	}
	i, ok := new(big.Int).SetString(n.String(), 10)
	switch {
	case !ok:
		d.problems.add(path, "want a whole number, have "+n.String())
	case into.CanInt() && i.IsInt64() && !into.OverflowInt(i.Int64()):
		into.SetInt(i.Int64())
	case into.CanUint() && i.IsUint64() && !into.OverflowUint(i.Uint64()):
		into.SetUint(i.Uint64())
	default:
		d.problems.add(path, n.String()+" does not fit")
	}
}

var (
	durationType   = reflect.TypeFor[time.Duration]()
	rawMessageType = reflect.TypeFor[json.RawMessage]()
)

// custom decodes durations and what decodes itself.
func (d decoder) custom(path string, v any, into reflect.Value) bool {
	if into.Type() == durationType {
		s, ok := v.(string)
		duration, err := time.ParseDuration(s)
		if !ok || err != nil {
			d.problems.add(path, `want a duration such as "500ms" or "1m30s"`)
		}
		into.SetInt(int64(duration))
		return true
	}
	switch u := into.Addr().Interface().(type) {
	case json.Unmarshaler:
		raw, err := json.Marshal(v)
		if err == nil {
			err = u.UnmarshalJSON(raw)
		}
		if err != nil {
			d.problems.add(path, err.Error())
		}
		return true
	case encoding.TextUnmarshaler:
		if s, ok := d.want(path, v, "a string").(string); ok {
			if err := u.UnmarshalText([]byte(s)); err != nil {
				d.problems.add(path, err.Error())
			}
		}
		return true
	}
	return false
}

func describeJSON(v any) string {
	switch v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return "null"
}

func join(path, key string) string {
	if strings.ContainsAny(key, ".[]\" ") || key == "" {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// suggest names the known key that an unknown one may have meant.
func suggest(key string, fields []field) string {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	for _, f := range fields {
		if a, b := plain(key), plain(f.key); strings.HasPrefix(a, b) || strings.HasPrefix(b, a) && len(a) > 1 {
			return fmt.Sprintf(" (do you mean %s?)", f.key)
		}
	}
	return ""
}
