package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// level decodes itself from text, picky from JSON.
type level int

func (l *level) UnmarshalText(b []byte) error {
	if string(b) != "high" {
		return fmt.Errorf("there is no level %s", b)
	}
	*l = 9
	return nil
}

type picky struct{ raw string }

func (p *picky) UnmarshalJSON(b []byte) error {
	if string(b) == `"no"` {
		return errors.New("not that one")
	}
	p.raw = string(b)
	return nil
}

type inner struct {
	Port uint16 `json:"port" min:"1" doc:"TCP port"`
	Name string `json:"name" required:"true"`
}

type embedded struct {
	Token string `json:"token"`
}

type full struct {
	embedded
	Flag     bool              `json:"flag"`
	Small    int8              `json:"small"`
	Big      uint64            `json:"big"`
	Ratio    float64           `json:"ratio" min:"0" max:"1"`
	Mode     string            `json:"mode,omitempty" enum:"fast,slow" doc:"how"`
	Wait     time.Duration     `json:"wait" min:"10ms" max:"1h"`
	Pause    time.Duration     `json:"pause" doc:"between" min:"1s"`
	Inner    inner             `json:"inner"`
	Pointer  *inner            `json:"pointer"`
	List     []inner           `json:"list" max:"2"`
	Matrix   [][]int           `json:"matrix"`
	Labels   map[string]string `json:"labels" min:"1"`
	Level    level             `json:"level"`
	Addr     netip.Addr        `json:"addr"`
	Picky    picky             `json:"picky"`
	Raw      json.RawMessage   `json:"raw"`
	Count    *int              `json:"count" min:"3"`
	Ignored  string            `json:"-"`
	Plain    string
	internal int
}

func TestDecodeConfig(t *testing.T) {
	c := full{Mode: "fast", Wait: time.Second, List: []inner{{Port: 1}}, Plain: "mine", internal: 7}
	require.NoError(t, DecodeConfig([]byte(`{
		"flag": true, "small": -128, "big": 18446744073709551615, "ratio": 0.5, "mode": "slow", "wait": "1m30s",
		"inner": {"port": 80, "name": "web"}, "pointer": {"port": 81, "name": "x"}, "list": [{"name": "a"}, {"name": "b", "port": 2}],
		"matrix": [[1, 2], []], "labels": {"zone": "a"}, "level": "high", "addr": "::1", "picky": {"any": [1]}, "raw": null, "count": 3, "token": "t"
	}`), &c))
	three := 3
	require.Equal(t, full{
		embedded: embedded{"t"}, Flag: true, Small: -128, Big: math.MaxUint64, Ratio: 0.5, Mode: "slow", Wait: 90 * time.Second,
		Inner: inner{80, "web"}, Pointer: &inner{81, "x"}, List: []inner{{0, "a"}, {2, "b"}},
		Matrix: [][]int{{1, 2}, {}}, Labels: map[string]string{"zone": "a"}, Level: 9, Addr: netip.MustParseAddr("::1"),
		Picky: picky{`{"any":[1]}`}, Raw: json.RawMessage("null"), Count: &three, Plain: "mine", internal: 7,
	}, c)
}

func TestDecodeConfigKeepsDefaults(t *testing.T) {
	c := full{Mode: "fast", Wait: time.Second, List: []inner{{Port: 1}}}
	want := c
	require.NoError(t, DecodeConfig([]byte(`{}`), &c))
	require.Equal(t, want, c)
}

func TestDecodeConfigProblems(t *testing.T) {
	for config, want := range map[string]string{
		``:                                   "not valid JSON at byte 0: unexpected EOF",
		`{`:                                  "not valid JSON at byte 1: unexpected EOF",
		`[]`:                                 "want an object, have a list",
		`"x"`:                                "want an object, have a string",
		`null`:                               "want an object, have null",
		`{} {}`:                              "not valid JSON at byte 4: data after the object",
		`{"flag": true, "flag": false}`:      "flag: the key is there twice",
		`{"FLAG": true}`:                     "FLAG: unknown key (do you mean flag?)",
		`{"waits": 1, "zzz": 2}`:             "waits: unknown key (do you mean wait?); zzz: unknown key",
		`{"a.b": 1, "": 2}`:                  `"": unknown key; "a.b": unknown key`,
		`{"Plain": "x"}`:                     "Plain: unknown key",
		`{"Ignored": "x"}`:                   "Ignored: unknown key",
		`{"flag": 1}`:                        "flag: want true or false, have a number",
		`{"flag": null}`:                     "flag: null is not a value; leave the key out for its default",
		`{"small": 128}`:                     "small: 128 does not fit",
		`{"small": 1.5}`:                     "small: want a whole number, have 1.5",
		`{"small": "1"}`:                     "small: want a number, have a string",
		`{"big": -1}`:                        "big: -1 does not fit",
		`{"big": 18446744073709551616}`:      "big: 18446744073709551616 does not fit",
		`{"ratio": 1e999}`:                   "ratio: 1e999 does not fit",
		`{"ratio": 1.1}`:                     "ratio: want at most 1",
		`{"ratio": -0.1}`:                    "ratio: want at least 0",
		`{"mode": "medium"}`:                 `mode: want one of fast, slow, have "medium"`,
		`{"wait": 5}`:                        `wait: want a duration such as "500ms" or "1m30s"`,
		`{"wait": "5 parsecs"}`:              `wait: want a duration such as "500ms" or "1m30s"`,
		`{"wait": "1ms"}`:                    "wait: want at least 10ms",
		`{"wait": "2h"}`:                     "wait: want at most 1h",
		`{"inner": {"port": 0}}`:             "inner.port: want at least 1; inner.name: this key is required",
		`{"inner": [], "pointer": 1}`:        "inner: want an object, have a list; pointer: want an object, have a number",
		`{"pointer": {"prot": 1}}`:           "pointer.prot: unknown key; pointer.name: this key is required",
		`{"list": [{"name": "a"}, {"x":1}]}`: "list[1].x: unknown key; list[1].name: this key is required",
		`{"list": [{"name":"a"},{"name":"b"},{"name":"c"}]}`: "list: length: want at most 2",
		`{"list": {}}`:                   "list: want a list, have an object",
		`{"matrix": [[1], ["x", true]]}`: "matrix[1][0]: want a number, have a string; matrix[1][1]: want a number, have true or false",
		`{"labels": {"a": 1, "b c": 2}}`: `labels.a: want a string, have a number; labels."b c": want a string, have a number`,
		`{"labels": {}}`:                 "labels: length: want at least 1",
		`{"labels": []}`:                 "labels: want an object, have a list",
		`{"level": "low"}`:               "level: there is no level low",
		`{"level": 9}`:                   "level: want a string, have a number",
		`{"picky": "no"}`:                "picky: not that one",
		`{"count": 2}`:                   "count: want at least 3",
		`{"mode": ["fast"]}`:             "mode: want a string, have a list",
	} {
		c := full{Mode: "fast"}
		err := DecodeConfig([]byte(config), &c)
		var problems *ConfigError
		require.ErrorAs(t, err, &problems, config)
		require.EqualError(t, err, want, config)
		require.Equal(t, full{Mode: "fast"}, c, "%s changed the struct", config)
	}
}

func TestDecodeConfigWithoutStruct(t *testing.T) {
	require.NoError(t, DecodeConfig([]byte(`{}`), nil))
	require.EqualError(t, DecodeConfig([]byte(`{"x": 1}`), nil), "x: unknown key; this plugin takes no config")
	require.ErrorContains(t, DecodeConfig([]byte(`{}`), full{}), "want a pointer to a struct")
	require.ErrorContains(t, DecodeConfig([]byte(`{}`), (*full)(nil)), "want a pointer to a struct")
}

func TestDecodeConfigDepth(t *testing.T) {
	for _, deep := range []string{strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000)} {
		require.ErrorContains(t, DecodeConfig([]byte(deep), &full{}), "nested deeper than 64")
	}
}

func TestConfigSchema(t *testing.T) {
	got, err := ConfigSchema(&full{Mode: "fast", Wait: time.Second, Inner: inner{Port: 80}, Addr: netip.IPv6Loopback()})
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(got, &schema))
	require.Equal(t, false, schema["additionalProperties"])
	properties := schema["properties"].(map[string]any)
	for key, want := range map[string]string{
		"flag":    `{"type":"boolean","default":false}`,
		"small":   `{"type":"integer","default":0}`,
		"big":     `{"type":"integer","minimum":0,"default":0}`,
		"ratio":   `{"type":"number","minimum":0,"maximum":1,"default":0}`,
		"mode":    `{"type":"string","enum":["fast","slow"],"description":"how","default":"fast"}`,
		"wait":    `{"type":"string","format":"go-duration","examples":["500ms","1m30s"],"description":"at least 10ms; at most 1h","default":"1s"}`,
		"pause":   `{"type":"string","format":"go-duration","examples":["500ms","1m30s"],"description":"between; at least 1s","default":"0s"}`,
		"inner":   `{"type":"object","additionalProperties":false,"required":["name"],"properties":{"port":{"type":"integer","minimum":1,"default":80,"description":"TCP port"},"name":{"type":"string"}}}`,
		"list":    `{"type":"array","maxItems":2,"default":[],"items":{"type":"object","additionalProperties":false,"required":["name"],"properties":{"port":{"type":"integer","minimum":1,"default":0,"description":"TCP port"},"name":{"type":"string"}}}}`,
		"matrix":  `{"type":"array","default":[],"items":{"type":"array","items":{"type":"integer"}}}`,
		"labels":  `{"type":"object","minProperties":1,"default":{},"additionalProperties":{"type":"string"}}`,
		"level":   `{"type":"string"}`,
		"count":   `{"type":"integer","minimum":3}`,
		"picky":   `{}`,
		"raw":     `{}`,
		"token":   `{"type":"string","default":""}`,
		"addr":    `{"type":"string","default":"::1"}`,
		"pointer": `{"type":"object","additionalProperties":false,"required":["name"],"properties":{"port":{"type":"integer","minimum":1,"default":0,"description":"TCP port"},"name":{"type":"string"}}}`,
	} {
		have, err := json.Marshal(properties[key])
		require.NoError(t, err)
		require.JSONEq(t, want, string(have), key)
	}
	require.Len(t, properties, 18)
}

func TestConfigSchemaOfNothing(t *testing.T) {
	got, err := ConfigSchema(nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{},"additionalProperties":false}`, string(got))
}

type loop struct {
	Next *loop `json:"next"`
}

func TestConfigSchemaRefusesWhatCannotBeDecoded(t *testing.T) {
	for want, config := range map[string]any{
		"want a pointer to a struct": 42,
		"it contains itself":         &loop{},
		"JSON has no such type": &struct {
			F func() `json:"f"`
		}{},
		"keys of a map must be strings": &struct {
			M map[int]int `json:"m"`
		}{},
		"m: l: use chan int": &struct {
			M struct {
				L []chan int `json:"l"`
			} `json:"m"`
		}{},
		"x: use complex128 as config": &struct {
			X complex128 `json:"x"`
		}{},
		"use uintptr as config: JSON has no s": &struct {
			P uintptr `json:"p"`
		}{},
	} {
		_, err := ConfigSchema(config)
		require.ErrorContains(t, err, want)
	}
}

// Every config that is accepted by a schema-free reading of it is stable: what
// was decoded can be encoded and decoded again.
func FuzzDecodeConfig(f *testing.F) {
	f.Add([]byte(`{"flag": true, "list": [{"name": "a", "port": 7}], "labels": {"a": "b"}, "wait": "1s", "ratio": 0.25}`))
	f.Add([]byte(`{"inner": {"name": "\u0000", "port": 65535}, "matrix": [[1], []], "pointer": {"name": ""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b struct {
			Flag   bool              `json:"flag"`
			Big    uint64            `json:"big"`
			Ratio  float64           `json:"ratio" min:"0" max:"1"`
			List   []inner           `json:"list" max:"2"`
			Matrix [][]int           `json:"matrix"`
			Labels map[string]string `json:"labels"`
		}
		if DecodeConfig(data, &a) != nil {
			return
		}
		if a.List == nil {
			a.List = []inner{}
		}
		if a.Matrix == nil {
			a.Matrix = [][]int{}
		}
		for i := range a.Matrix {
			if a.Matrix[i] == nil {
				a.Matrix[i] = []int{}
			}
		}
		if a.Labels == nil {
			a.Labels = map[string]string{}
		}
		for i := range a.List {
			if a.List[i].Port == 0 {
				return // its default is below its minimum
			}
		}
		again, err := json.Marshal(a)
		require.NoError(t, err)
		require.NoError(t, DecodeConfig(again, &b))
		require.Equal(t, a, b)
	})
}
