// Package getopt reads command lines as getopt_long(3) of the GNU C library does:
// options and operands in any order, short options in one word, long ones cut
// short, and the same words for what is wrong. It is for commands that must take
// what an older program takes.
package getopt

import (
	"fmt"
	"strings"
)

// Option is one option of a command.
type Option struct {
	Short byte   // 0 for none
	Long  string // "" for none
	Arg   string // what its argument is called; "" if it takes none
	Help  string
	// Extra says that the older program has no such option, so that it must not
	// make a word ambiguous that was not.
	Extra bool
}

// Error is a mistake in a command line, in getopt's words.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

func errorf(format string, args ...any) *Error { return &Error{fmt.Sprintf(format, args...)} }

// Parse calls set for each option in its turn and returns the operands. The first
// error, a *Error or one of set, ends it; then later words have not been looked at.
func Parse(options []Option, args []string, set func(o *Option, arg string) error) (operands []string, err error) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return append(operands, args...), nil
		case strings.HasPrefix(word, "--"):
			args, err = parseLong(options, word[2:], args, set)
		case len(word) > 1 && word[0] == '-':
			args, err = parseShort(options, word[1:], args, set)
		default:
			operands = append(operands, word)
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

func parseLong(options []Option, word string, args []string, set func(*Option, string) error) ([]string, error) {
	name, value, given := strings.Cut(word, "=")
	o, err := find(options, name, word)
	if err != nil {
		return nil, err
	}
	switch {
	case given && o.Arg == "":
		return nil, errorf("option '--%s' doesn't allow an argument", o.Long)
	case !given && o.Arg != "":
		if len(args) == 0 {
			return nil, errorf("option '--%s' requires an argument", o.Long)
		}
		value, args = args[0], args[1:]
	}
	return args, set(o, value)
}

// find looks a long name up: the whole name, or the beginning of just one.
func find(options []Option, name, word string) (*Option, error) {
	var known, extra []*Option
	for i := range options {
		o := &options[i]
		switch {
		case o.Long == "" || !strings.HasPrefix(o.Long, name):
		case o.Long == name:
			return o, nil
		case o.Extra:
			extra = append(extra, o)
		default:
			known = append(known, o)
		}
	}
	if len(known) == 0 {
		known = extra
	}
	switch len(known) {
	case 0:
		return nil, errorf("unrecognized option '--%s'", word)
	case 1:
		return known[0], nil
	}
	var b strings.Builder
	for _, o := range known {
		fmt.Fprintf(&b, " '--%s'", o.Long)
	}
	return nil, errorf("option '--%s' is ambiguous; possibilities:%s", word, b.String())
}

// parseShort takes a word of short options, the last of which may have an argument.
func parseShort(options []Option, word string, args []string, set func(*Option, string) error) ([]string, error) {
	for i := range len(word) {
		o := short(options, word[i])
		if o == nil {
			return nil, errorf("invalid option -- '%s'", word[i:i+1])
		}
		value := ""
		if o.Arg != "" {
			switch {
			case i+1 < len(word):
				value = word[i+1:]
			case len(args) > 0:
				value, args = args[0], args[1:]
			default:
				return nil, errorf("option requires an argument -- '%s'", word[i:i+1])
			}
		}
		if err := set(o, value); err != nil || o.Arg != "" {
			return args, err
		}
	}
	return args, nil
}

func short(options []Option, c byte) *Option {
	for i := range options {
		if options[i].Short == c && c != 0 {
			return &options[i]
		}
	}
	return nil
}
