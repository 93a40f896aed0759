package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "github.com/debughost/debughost/control/proto"
)

// specFile is a child's spec in TOML. docs/children.md has it with a comment on each
// key.
type specFile struct {
	ID              string            `toml:"id"`
	Strategy        string            `toml:"strategy"`
	Restart         string            `toml:"restart"`
	MaxRestarts     *int32            `toml:"max_restarts"`
	MaxRestartsIn   *span             `toml:"max_restarts_in"`
	ShutdownTimeout *span             `toml:"shutdown_timeout"`
	Placement       string            `toml:"placement"`
	Constraints     map[string]string `toml:"constraints"`
	Near            string            `toml:"near"`
	Apart           []string          `toml:"apart"`
	Handoff         string            `toml:"handoff"`
	Limits          specLimits        `toml:"limits"`
	Config          map[string]any    `toml:"config"`
}

type specLimits struct {
	Memory    amount  `toml:"memory"`
	CPUs      float64 `toml:"cpus"`
	Processes uint32  `toml:"processes"`
	OpenFiles uint32  `toml:"open_files"`
	Disk      amount  `toml:"disk"`
}

// span is a duration as text: 5s.
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%.40q is not a duration such as 500ms, 10s or 1m30s", text)
	}
	*s = span(d)
	return nil
}

func (s *span) pb() *durationpb.Duration {
	if s == nil {
		return nil
	}
	return durationpb.New(time.Duration(*s))
}

// amount is a number of bytes as text: 512MB.
type amount uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *amount) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	*a = amount(n)
	return err
}

// byteUnits are powers of 1000, and with an i of 1024.
var byteUnits = map[string]float64{
	"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30, "ti": 1 << 40, "tib": 1 << 40,
}

// parseSize reads a number of bytes as size prints it: 512MB, 1.5 GiB.
func parseSize(text string) (uint64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, ok := byteUnits[strings.ToLower(strings.TrimSpace(text[len(number):]))]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(n >= 0) || n*unit >= 1<<63 || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%.40q is not a size such as 512MB or 2GiB", text)
	}
	return uint64(n * unit), nil
}

// maxSpecFile bounds a spec file in bytes.
const maxSpecFile = 1 << 20

// readSpecFile reads a spec strictly. The config comes apart, for flags to be put into
// it.
func readSpecFile(stdin io.Reader, path string) (*controlpb.ChildSpec, map[string]any, error) {
	name := path
	if path == "-" {
		name = "standard input"
	}
	data, err := readSpecBytes(stdin, path)
	if err != nil {
		return nil, nil, usagef("read %s: %v", name, err)
	}
	return parseSpec(name, data)
}

// parseSpec is readSpecFile of what was read already, from where name says.
func parseSpec(name string, data []byte) (*controlpb.ChildSpec, map[string]any, error) {
	var f specFile
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, nil, usagef("read %s", specProblem(name, data, err))
	}
	spec := &controlpb.ChildSpec{
		Id: f.ID, Strategy: f.Strategy, Restart: f.Restart, MaxRestartsIn: f.MaxRestartsIn.pb(), ShutdownTimeout: f.ShutdownTimeout.pb(),
		Placement: f.Placement, Constraints: f.Constraints, Near: f.Near, Apart: f.Apart, Handoff: f.Handoff,
		Limits: &controlpb.ChildLimits{
			Memory: uint64(f.Limits.Memory), Cpus: f.Limits.CPUs, Processes: f.Limits.Processes, OpenFiles: f.Limits.OpenFiles, Disk: uint64(f.Limits.Disk),
		},
	}
	if f.MaxRestarts != nil {
		spec.MaxRestarts = noneBelowZero(*f.MaxRestarts)
	}
	if f.Config == nil {
		f.Config = map[string]any{}
	}
	return spec, f.Config, nil
}

func readSpecBytes(stdin io.Reader, path string) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSpecFile+1))
	if err == nil && len(data) > maxSpecFile {
		err = fmt.Errorf("it is larger than %d bytes", maxSpecFile)
	}
	return data, err
}

// specProblem says what is wrong with a spec file, each mistake with its line.
func specProblem(name string, data []byte, err error) string {
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var lines []string
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			lines = append(lines, fmt.Sprintf("%s:%d: %s: unknown key; keys are %s", name, row, strings.Join(e.Key(), "."), strings.Join(specKeys(e.Key()), ", ")))
		}
		return strings.Join(lines, "\n  ")
	case errors.As(err, &wrong):
		row, _ := wrong.Position()
		return fmt.Sprintf("%s:%d: %s%s", name, row, keyAt(data, row), mistyped(strings.TrimPrefix(wrong.Error(), "toml: ")))
	}
	return fmt.Sprintf("%s: %s", name, strings.TrimPrefix(err.Error(), "toml: "))
}

// keyAt is the key that a line sets, for a person; the value may be secret.
func keyAt(data []byte, row int) string {
	lines := bytes.Split(data, []byte("\n"))
	if row < 1 || row > len(lines) {
		return ""
	}
	key, _, ok := bytes.Cut(lines[row-1], []byte("="))
	if key = bytes.TrimSpace(key); !ok || len(key) == 0 || len(key) > 40 {
		return ""
	}
	return string(key) + ": "
}

// goTypes is how the decoder says that a value has the wrong type.
var goTypes = regexp.MustCompile(`^cannot decode TOML (\S+) into .* of type (\S+)$`)

// mistyped says the same without the names of this program.
func mistyped(msg string) string {
	m := goTypes.FindStringSubmatch(msg)
	if m == nil {
		return msg
	}
	want := strings.TrimPrefix(strings.TrimPrefix(m[2], "*"), "main.")
	if w := map[string]string{"string": "a text in quotes", "int32": "a whole number", "uint32": "a whole number", "float64": "a number", "[]string": "a list of texts"}[want]; w != "" {
		want = w
	}
	return fmt.Sprintf("want %s, have %s", want, m[1])
}

// specKeys are the keys of the table that a key is in.
func specKeys(key toml.Key) []string {
	t := reflect.TypeFor[specFile]()
	if len(key) > 1 && key[0] == "limits" {
		t = reflect.TypeFor[specLimits]()
	}
	var out []string
	for f := range t.Fields() {
		out = append(out, f.Tag.Get("toml"))
	}
	slices.Sort(out)
	return out
}
