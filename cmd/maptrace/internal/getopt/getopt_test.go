package getopt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

var options = []Option{
	{Short: 'x', Long: "extended"},
	{Short: 'A', Long: "range", Arg: "LOW,HIGH"},
	{Short: 'c', Long: "read-rc"},
	{Short: 'C', Long: "read-rc-from", Arg: "FILE"},
	{Short: 'X'},
	{Long: "top", Arg: "N", Extra: true},
	{Long: "extra", Extra: true},
	{Long: "topmost", Extra: true},
}

// The words for mistakes are those of glibc 2.36, seen with pmap.
func TestParse(t *testing.T) {
	tests := []struct{ name, args, want string }{
		{"nothing", "", ""},
		{"operands between options", "1 -x 2 -X 3", "x X | 1 2 3"},
		{"a bundle, with an argument in the word", "-xXA1,2 3", "x X A=1,2 | 3"},
		{"a bundle, with an argument in the next word", "-xA -x 3", "x A=-x | 3"},
		{"a long name with its argument", "--range=1=2 --range 3 4", "range=1=2 range=3 | 4"},
		{"a long name cut short", "--ext --ra 1", "extended range=1"},
		{"a name that is the beginning of another", "--read-rc --read-rc-from f --top 3", "read-rc read-rc-from=f top=3"},
		{"a beginning that an extra option shares", "--ex", "extended"},
		{"an extra option cut short", "--topm", "topmost"},
		{"everything after -- is an operand", "-x -- -x --", "x | -x --"},
		{"a single dash is an operand", "- -x", "x | -"},
		{"an unknown letter", "-xz", "x ! invalid option -- 'z'"},
		{"an unknown name", "--foo=3", "! unrecognized option '--foo=3'"},
		{"an ambiguous name", "--r=3", "! option '--r=3' is ambiguous; possibilities: '--range' '--read-rc' '--read-rc-from'"},
		{"an argument that is not wanted", "--extended=", "! option '--extended' doesn't allow an argument"},
		{"an argument that is missing", "--range", "! option '--range' requires an argument"},
		{"an argument of a letter that is missing", "-xA", "x ! option requires an argument -- 'A'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			operands, err := Parse(options, strings.Fields(tt.args), func(o *Option, arg string) error {
				name := o.Long
				if !strings.Contains(tt.args, "--") || name == "" {
					name = string(o.Short)
				}
				if strings.HasPrefix(tt.args, "-x") {
					name = string(o.Short)
				}
				if o.Arg != "" {
					name += "=" + arg
				}
				got = append(got, name)
				return nil
			})
			if len(operands) > 0 {
				got = append(append(got, "|"), operands...)
			}
			if err != nil {
				got = append(got, "!", err.Error())
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%q gave %q, want %q", tt.args, s, tt.want)
			}
		})
	}
}

func TestParseStopsAtTheFirstErrorOfSet(t *testing.T) {
	want := errors.New("no")
	n := 0
	_, err := Parse(options, []string{"-xx", "-z"}, func(*Option, string) error {
		n++
		return fmt.Errorf("set: %w", want)
	})
	if !errors.Is(err, want) || n != 1 {
		t.Errorf("got %v after %d calls", err, n)
	}
}
