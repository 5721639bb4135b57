package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The groups that the flags of a command are listed in, in this order.
const (
	groupTarget     = "Which processes"
	groupWhat       = "What to watch"
	groupOutput     = "Output"
	groupCost       = "Cost"
	groupPrivileges = "Privileges"
	groupOther      = "Other flags"
)

var flagGroups = []string{groupTarget, groupWhat, groupOutput, groupCost, groupPrivileges, groupOther}

// groupKey is the annotation of a flag that names its group.
const groupKey = "maptrace_group"

// group puts flags of a command into a group.
func group(cmd *cobra.Command, name string, flags ...string) {
	for _, f := range flags {
		flag := cmd.Flags().Lookup(f)
		if flag.Annotations == nil {
			flag.Annotations = make(map[string][]string)
		}
		flag.Annotations[groupKey] = []string{name}
	}
}

// groupOf is the group of a flag.
func groupOf(f *pflag.Flag) string {
	if names := f.Annotations[groupKey]; len(names) == 1 {
		return names[0]
	}
	return groupOther
}

// addOutputFlags adds those that say in which form the output is, and where it goes.
func addOutputFlags(cmd *cobra.Command, form, toFile *string) {
	*form = textForm
	f := cmd.Flags()
	f.Var(formatValue{form, jsonForm}, jsonForm, "print JSON, one object a line")
	f.Var(formatValue{form, csvForm}, csvForm, "print comma-separated values, with a heading")
	for _, name := range []string{jsonForm, csvForm} {
		f.Lookup(name).NoOptDefVal = "true"
	}
	f.StringVar(toFile, "to", "", "write to `FILE` instead of standard output")
	group(cmd, groupOutput, jsonForm, csvForm, "to")
}

// addOldOutputFlag adds the older way to choose a form, which is not shown.
func addOldOutputFlag(cmd *cobra.Command, form *string) {
	cmd.Flags().VarP(anyFormat{form}, "output", "o", "the `FORM` of the output")
	_ = cmd.Flags().MarkHidden("output") // it is there
}

// addSpanFlag adds the flag for how long to go on, and its older name, which is not shown.
func addSpanFlag(cmd *cobra.Command, v spanValue, usage string) {
	cmd.Flags().Var(v, "for", usage)
	cmd.Flags().Var(v, "duration", usage)
	_ = cmd.Flags().MarkHidden("duration") // it is there
	group(cmd, groupWhat, "for")
}

// spanGiven tells whether it was said how long to go on.
func spanGiven(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("for") || cmd.Flags().Changed("duration")
}

// span is a flag for a length of time that is d unless given.
func span(to *time.Duration, d time.Duration) spanValue {
	*to = d
	return spanValue{to: to}
}

// flagMistake says what is wrong with a flag in the words of who typed it.
func flagMistake(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		lacking *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		err = unknownFlag(cmd, unknown)
	case errors.As(err, &lacking):
		f := lacking.GetFlag()
		err = fmt.Errorf("%s needs a value: %s %s", spelled(f), spelled(f), sampleOf(f))
	case errors.As(err, &invalid):
		f, given := invalid.GetFlag(), fmt.Sprintf(" %q", invalid.GetValue())
		if f.NoOptDefVal != "" && invalid.GetValue() == f.NoOptDefVal {
			given = "" // nobody typed it
		}
		err = fmt.Errorf("%s%s: %w", spelled(f), given, wanted(f, errors.Unwrap(invalid)))
	}
	return &codedError{exitUsage, err}
}

// spelled is how a flag is typed, by most people.
func spelled(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// wanted is what the value of a flag should have been. What pflag's own types say is about
// Go.
func wanted(f *pflag.Flag, err error) error {
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
		return err
	case f.Value.Type() == "bool":
		return errors.New("it takes no value")
	}
	return errors.New("want a whole number, as 10")
}

// samples are values of flags by their types, for those who left them out.
var samples = map[string]string{
	"duration": "10s", "size": "64K", "percentage": "1", "int": "10", processWord: "1234", "thread": "1234", "format": "json",
}

// sampleOf is a value of a flag, or what stands for one in its help.
func sampleOf(f *pflag.Flag) string {
	if s, ok := samples[f.Value.Type()]; ok {
		return s
	}
	name, _ := pflag.UnquoteUsage(f)
	return name
}

// unknownFlag says which flag may have been meant, or whose it is.
func unknownFlag(cmd *cobra.Command, e *pflag.NotExistError) error {
	name, text := e.GetSpecifiedName(), "--"+e.GetSpecifiedName()
	if letters := e.GetSpecifiedShortnames(); letters != "" {
		name, text = letters, "-"+letters
		if len(letters) > 1 && cmd.Flags().Lookup(letters) == nil {
			text = "-" + name[:1] // of several in one word
		}
	}
	if len(name) == 1 {
		return fmt.Errorf("there is no flag %s; see '%s --help'", text, cmd.CommandPath())
	}
	if f := cmd.Flags().Lookup(name); f != nil {
		return fmt.Errorf("there is no flag %s; did you mean --%s?", text, name)
	}
	var others []string
	for _, c := range cmd.Root().Commands() {
		if f := c.Flags().Lookup(name); f != nil && !f.Hidden && !c.Hidden {
			others = append(others, c.Name())
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("%s has no flag %s: it is one of %s", cmd.CommandPath(), text, strings.Join(others, ", "))
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest(name, names); len(near) > 0 {
		return fmt.Errorf("there is no flag %s; did you mean --%s?", text, strings.Join(near, " or --"))
	}
	return fmt.Errorf("there is no flag %s; see '%s --help'", text, cmd.CommandPath())
}

// nearest are those names that a word may have been meant to be: those that it is the
// beginning of, and those with the fewest other letters, if they are few.
func nearest(word string, names []string) (near []string) {
	word = strings.ToLower(word)
	least := max(1, len(word)/3)
	for _, name := range names {
		least = min(least, distance(word, name))
	}
	for _, name := range names {
		if strings.HasPrefix(name, word) || distance(word, name) <= least {
			near = append(near, name)
		}
	}
	slices.Sort(near)
	return near
}

// distance is how many letters are to be put in, left out, replaced or exchanged with their
// neighbour to make a word another.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// unknownCommand says which command may have been meant.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(names, c.Name())
		}
	}
	hint := fmt.Sprintf("see '%s --help'", cmd.CommandPath())
	if near := nearest(word, names); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	} else if _, ok := findTopic([]string{word}); ok && !cmd.HasParent() {
		hint = fmt.Sprintf("it is a topic: 'maptrace help %s'", word)
	}
	return usagef("there is no command %q; %s", word, hint)
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q: '%s' takes no arguments", args[0], cmd.CommandPath())
	}
	return nil
}
