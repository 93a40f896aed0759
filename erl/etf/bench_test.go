package etf

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchNames are the terms of the benchmarks, about 1 MB each.
var benchNames = []string{"table", "mixed", "maps"}

func benchTerm(name string) Term {
	switch name {
	case "table":
		return benchTable(8000)
	case "mixed":
		return benchMixed(2500)
	}
	return benchMaps(2500)
}

// benchEncoded is benchTerm encoded. The tree is garbage then: a decoder is not
// measured with a tree in memory that the collector marks again and again.
func benchEncoded(b *testing.B, name string) []byte {
	encoded, err := Encode(benchTerm(name))
	require.NoError(b, err)
	return encoded
}

// benchRow is a row of what a process table looks like.
type benchRow struct {
	pid                         Pid
	name                        Atom // "" for none
	memory, reductions, pending int64
	current, initial            Export
	status                      Atom
}

func benchRows(n int) []benchRow {
	modules := []Atom{"gen_server", "Elixir.Shop.Cart", "Elixir.Shop.Stock", "supervisor", "erts_code_purger", "prim_inet"}
	functions := []Atom{"loop", "init", "handle_call", "wait_for_messages", "recv0", "init_it"}
	mfa := func(k int) Export {
		return Export{modules[k%len(modules)], functions[k/3%len(functions)], uint8(k % 5)}
	}
	rows := make([]benchRow, n)
	for i := range rows {
		rows[i] = benchRow{
			pid:    Pid{Node: "shop@10.11.12.13", ID: uint32(100 + i), Creation: 1690000000},
			memory: int64(2688 + i*i%90000*8), reductions: int64(i * 7919 % 5_000_000), pending: int64(i % 17 / 16),
			current: mfa(i * 7 / 3), initial: mfa(i * 5 / 2), status: []Atom{"waiting", "running", "runnable"}[i%40/38],
		}
		if i%10 == 0 {
			rows[i].name = Atom(fmt.Sprintf("Elixir.Shop.Worker.N%d", i%300))
		}
	}
	return rows
}

// benchTable is a list of {Pid, Name, Memory, Reductions, QueueLen, Current,
// Initial, Status}.
func benchTable(n int) Term {
	mfa := func(e Export) Term { return Tuple{e.Module, e.Function, Int(e.Arity)} }
	list := make(List, n)
	for i, r := range benchRows(n) {
		name := Term(List{})
		if r.name != "" {
			name = r.name
		}
		list[i] = Tuple{r.pid, name, Int(r.memory), Int(r.reductions), Int(r.pending), mfa(r.current), mfa(r.initial), r.status}
	}
	return list
}

// appendBenchTable appends benchTable without making it.
func appendBenchTable(b []byte, rows []benchRow) ([]byte, error) {
	b = AppendListHeader(b, len(rows))
	for i := range rows {
		var err error
		if b, err = appendBenchRow(b, &rows[i]); err != nil {
			return b, err
		}
	}
	return AppendNil(b), nil
}

func appendBenchRow(b []byte, r *benchRow) (_ []byte, err error) {
	b = AppendTupleHeader(b, 8)
	if b, err = AppendPid(b, r.pid); err != nil {
		return b, err
	}
	if r.name == "" {
		b = AppendNil(b)
	} else if b, err = AppendAtom(b, r.name); err != nil {
		return b, err
	}
	b = AppendInt(AppendInt(AppendInt(b, r.memory), r.reductions), r.pending)
	for _, mfa := range []*Export{&r.current, &r.initial} {
		b = AppendTupleHeader(b, 3)
		if b, err = AppendAtom(b, mfa.Module); err != nil {
			return b, err
		}
		if b, err = AppendAtom(b, mfa.Function); err != nil {
			return b, err
		}
		b = AppendInt(b, int64(mfa.Arity))
	}
	return AppendAtom(b, r.status)
}

func TestPartsMakeTheSameBytes(t *testing.T) {
	want, err := Append(nil, benchTable(100))
	require.NoError(t, err)
	got, err := appendBenchTable(nil, benchRows(100))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// benchMixed has a bit of everything.
func benchMixed(n int) Term {
	list := make(List, n)
	for i := range list {
		list[i] = Tuple{
			Atom("event"), Int(i), Int(int64(i) * 1_000_000_007_000), Float(float64(i) / 7),
			Binary(strings.Repeat("payload ", 1+i%12)), String("a charlist of " + strconv.Itoa(i)),
			Ref{Node: "shop@10.11.12.13", Creation: 1690000000, Len: 3, Words: [5]uint32{uint32(i), 2, 3}},
			List{Tuple{Atom("timeout"), Int(5000)}, Tuple{Atom("retries"), Int(i % 3)}, Atom("compressed")},
			Map{{Atom("id"), Int(i)}, {Atom("name"), Binary("item " + strconv.Itoa(i))}, {Atom("tags"), List{Atom("a"), Atom("b")}}},
			Pid{Node: "shop@10.11.12.13", ID: uint32(i), Creation: 1690000000},
			Atom("undefined"), Atom("true"), List{},
		}
	}
	return list
}

// benchMaps is like the state of a web application: maps of binaries.
func benchMaps(n int) Term {
	list := make(List, n)
	for i := range list {
		s := strconv.Itoa(i)
		list[i] = Map{
			{Atom("__struct__"), Atom("Elixir.Shop.Order")},
			{Atom("id"), Binary("0f8fad5b-d9cb-469f-a165-" + s)},
			{Atom("customer"), Map{
				{Binary("name"), Binary("Customer number " + s)},
				{Binary("email"), Binary("customer" + s + "@example.com")},
				{Binary("address"), Binary(strings.Repeat("Some Street 12, ", 1+i%5))},
			}},
			{Atom("lines"), List{
				Map{{Atom("sku"), Binary("SKU-" + s)}, {Atom("count"), Int(i % 9)}, {Atom("price"), Int(1000 + i)}},
				Map{{Atom("sku"), Binary("SKU-1" + s)}, {Atom("count"), Int(i % 4)}, {Atom("price"), Int(90000 + i)}},
			}},
			{Atom("inserted_at"), Int(1700000000000000 + int64(i))},
			{Atom("paid"), Atom("true")},
		}
	}
	return list
}

func forBenchTerms(b *testing.B, run func(b *testing.B, name string, encoded []byte)) {
	for _, name := range benchNames {
		encoded := benchEncoded(b, name)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			run(b, name, encoded)
		})
	}
}

func BenchmarkDecodeTree(b *testing.B) {
	forBenchTerms(b, func(b *testing.B, _ string, encoded []byte) {
		d := NewDecoder(Limits{})
		for b.Loop() {
			if _, err := d.Decode(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodeTape(b *testing.B) {
	forBenchTerms(b, func(b *testing.B, _ string, encoded []byte) {
		tape := NewTape(Limits{})
		for b.Loop() {
			if err := tape.Decode(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReadTape decodes to the tape and reads every column of each row.
func BenchmarkReadTape(b *testing.B) {
	encoded := benchEncoded(b, "table")
	b.SetBytes(int64(len(encoded)))
	b.ReportAllocs()
	tape := NewTape(Limits{})
	for b.Loop() {
		if err := tape.Decode(encoded); err != nil {
			b.Fatal(err)
		}
		if sum := sumRows(tape); sum == 0 {
			b.Fatal("no rows")
		}
	}
}

func sumRows(tape *Tape) (sum int64) {
	root := tape.Cursor()
	rows, _ := root.EnterList()
	for rows.Len() > 0 {
		row, _ := rows.EnterTuple()
		pid, _ := row.Pid()
		if _, named := row.Atom(); !named {
			row.Skip()
		}
		sum += int64(pid.ID)
		for range 3 {
			v, _ := row.Int()
			sum += v
		}
		for range 2 {
			mfa, _ := row.EnterTuple()
			m, _ := mfa.AtomBytes()
			f, _ := mfa.AtomBytes()
			a, _ := mfa.Int()
			sum += int64(len(m)+len(f)) + a
		}
		status, _ := row.AtomBytes()
		sum += int64(len(status))
	}
	return sum
}

func BenchmarkAppend(b *testing.B) {
	forBenchTerms(b, func(b *testing.B, name string, encoded []byte) {
		t := benchTerm(name)
		buf := make([]byte, 0, len(encoded))
		for b.Loop() {
			if _, err := Append(buf, t); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAppendParts writes the table without a tree.
func BenchmarkAppendParts(b *testing.B) {
	encoded := benchEncoded(b, "table")
	b.SetBytes(int64(len(encoded)))
	b.ReportAllocs()
	rows, buf := benchRows(8000), make([]byte, 0, len(encoded))
	for b.Loop() {
		if _, err := appendBenchTable(buf, rows); err != nil {
			b.Fatal(err)
		}
	}
}
