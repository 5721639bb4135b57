package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/maptrace/maptrace/cmd/maptrace/docs"
)

// newHelp is cobra's help command, which knows topics too, and for which a word
// that is neither a command nor a topic is wrong usage.
func newHelp(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Help about any command or topic",
		Long: `help prints what a command does and its flags, or a topic of the manual. Without
either it lists both. The topics are manual pages too: man maptrace-TOPIC.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if t, ok := findTopic(args); ok {
				_, err := io.WriteString(s.out, t.Text)
				return err
			}
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownTopic(cmd.Root(), args)
			}
			about.InitDefaultHelpFlag() // so that it is listed
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var list []cobra.Completion
			for _, c := range about.Commands() {
				if c.IsAvailableCommand() {
					list = append(list, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			if len(args) == 0 {
				for _, t := range docs.Topics() {
					list = append(list, cobra.CompletionWithDesc(t.Name, t.Short))
				}
			}
			return list, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// findTopic finds the topic that the arguments of help name.
func findTopic(args []string) (docs.Topic, bool) {
	if len(args) == 1 {
		for _, t := range docs.Topics() {
			if t.Name == args[0] {
				return t, true
			}
		}
	}
	return docs.Topic{}, false
}

// unknownTopic is the error for a word that help does not know, with those that it
// may have been meant to be.
func unknownTopic(root *cobra.Command, args []string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	for _, t := range docs.Topics() {
		names = append(names, t.Name)
	}
	near := nearest(args[0], names)
	hint := "see 'maptrace help'"
	if len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("no command or topic is called %q; %s", strings.Join(args, " "), hint)
}

// helpColumns is how wide a help text is at most.
const helpColumns = 80

// writeHelp prints what a command does: how it is written and examples first, as most who
// ask look for these.
func writeHelp(w io.Writer, c *cobra.Command) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\nUsage:\n", strings.TrimSuffix(c.Short, "."))
	if c.Runnable() {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", c.CommandPath())
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	if c.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Long))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nAvailable Commands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	for _, name := range flagGroups {
		flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
		flags.SortFlags = false
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if groupOf(f) == name {
				flags.AddFlag(f)
			}
		})
		if flags.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n%s:\n%s", name, flags.FlagUsagesWrapped(helpColumns))
		}
	}
	if !c.HasParent() {
		b.WriteString("\nTopics:\n")
		for _, t := range docs.Topics() {
			fmt.Fprintf(&b, "  %-13s %s\n", t.Name, t.Short)
		}
		b.WriteString("\nUse \"maptrace help COMMAND\" or \"maptrace help TOPIC\" for one of them.\n")
	}
	_, _ = io.WriteString(w, b.String()) // cobra asks for no error
}
