package table

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type fruit struct {
	name   string
	count  uint64
	change int64
	rate   Value
}

var fruits = []fruit{
	{"apple", 12, -3, Float(0.25)},
	{"a fig", 1234, 10, Value{}},
	{"日本", 0, 0, Float(100)},
}

var fruitColumns = []Column[fruit]{
	{Name: "FRUIT", Key: "fruit", Value: func(f fruit) Value { return Text(f.name) }},
	{Name: "N", Key: "count", Align: Right, Sum: true, Value: func(f fruit) Value { return Uint(f.count) }},
	{Name: "CHANGE", Key: "change", Align: Right, Sum: true, Value: func(f fruit) Value { return Int(f.change) }},
	{
		Name: "RATE", Key: "rate", Align: Right, Value: func(f fruit) Value { return f.rate },
		Format: func(dst []byte, v Value) []byte { return append(v.Append(dst), "/s"...) },
	},
	{Name: "NOTE", Key: "note", Value: func(f fruit) Value { return Text(map[bool]string{true: "none left"}[f.count == 0]) }},
}

func TestAlignedFitsItsRows(t *testing.T) {
	a := NewAligned(fruitColumns)
	a.Fit(slices.Values(fruits))
	out := a.AppendHeader(nil)
	for _, f := range fruits {
		out = a.AppendRow(out, f)
	}
	out = a.AppendRule(out)
	out = a.AppendTotals(out, "all")
	const want = `FRUIT    N CHANGE    RATE NOTE
apple   12     -3   0.2/s
a fig 1234     10
日本       0      0 100.0/s none left
----- ---- ------
all   1246      7
`
	if diff := cmp.Diff(string(out), want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	a.ResetTotals()
	if got := a.Total(1); got != Uint(0) {
		t.Errorf("the total after a reset is %v", got.any())
	}
}

func TestAlignedFitsItsTotals(t *testing.T) {
	a := NewAligned([]Column[uint64]{{Name: "N", Align: Right, Sum: true, Value: Uint}, {Name: "X", Value: func(uint64) Value { return Text("x") }}})
	a.Fit(slices.Values([]uint64{999, 1}))
	out := a.AppendRow(a.AppendRow(nil, 999), 1)
	out = a.AppendTotals(out, "")
	if got, want := string(out), " 999 x\n   1 x\n1000\n"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestALongCellPushesItsLine(t *testing.T) {
	a := NewAligned(fruitColumns)
	got := string(a.AppendRow(nil, fruit{"a", 1, 2, Float(3)}))
	if want := "a 1 2 3.0/s\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestValuesCompare(t *testing.T) {
	ascending := []Value{
		{},
		Float(math.Inf(-1)), Int(-5), Float(-0.5), Uint(0), Float(0.5), Int(7), Uint(8),
		Uint(math.MaxUint64 - 1), Uint(math.MaxUint64), Text(""), Text("a"), Text("b"),
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got := a.Compare(b)
			if (i < j) != (got < 0) || (i > j) != (got > 0) {
				t.Errorf("%v compared with %v gives %d", a.any(), b.any(), got)
			}
		}
	}
}

func TestValues(t *testing.T) {
	tests := []struct {
		v     Value
		any   any
		text  string
		known bool
	}{
		{Value{}, nil, "", false},
		{Uint(math.MaxUint64), uint64(math.MaxUint64), "18446744073709551615", true},
		{Int(-3), int64(-3), "-3", true},
		{Float(1.25), 1.25, "1.2", true},
		{Text("x"), "x", "x", true},
	}
	for _, tt := range tests {
		if tt.v.any() != tt.any || string(tt.v.Append(nil)) != tt.text || tt.v.Known() != tt.known {
			t.Errorf("%v: Any %v, text %q, known %v", tt.any, tt.v.any(), tt.v.Append(nil), tt.v.Known())
		}
	}
	sums := []struct{ a, b, want Value }{
		{Uint(1), Uint(2), Uint(3)},
		{Uint(1), Int(-2), Int(-1)},
		{Uint(1), Float(0.5), Float(1.5)},
		{Int(-1), Float(0.5), Float(-0.5)},
		{Value{}, Uint(2), Uint(2)},
		{Uint(2), Value{}, Uint(2)},
		{Uint(2), Text("x"), Uint(2)},
	}
	for _, tt := range sums {
		if got := tt.a.add(tt.b); got != tt.want {
			t.Errorf("%v + %v = %v, want %v", tt.a.any(), tt.b.any(), got.any(), tt.want.any())
		}
	}
}

// any returns the value as a uint64, int64, float64 or string, or nil when it is
// not known.
func (v Value) any() any {
	switch v.kind {
	case kindUint:
		return v.num
	case kindInt:
		return int64(v.num)
	case kindFloat:
		return math.Float64frombits(v.num)
	case kindText:
		return v.text
	}
	return nil
}
