package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

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

// listTopics lists the topics below the help of the root command.
func listTopics(w io.Writer) {
	fmt.Fprint(w, "\nTopics:\n")
	for _, t := range docs.Topics() {
		fmt.Fprintf(w, "  %-13s %s\n", t.Name, t.Short)
	}
	fmt.Fprint(w, "\nUse \"maptrace help TOPIC\" for one of them.\n")
}
