//go:build manual

// With the tag "manual" the command is another, which is no part of the product: it
// writes the manual pages and shell completions into a directory that is laid out
// as /usr/share is. Being the same package it has the same commands, so the product
// need not have one more for this.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/docs"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/manual"
)

func main() {
	version := flag.String("version", "", "the `version` that the pages name")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(int(exitUsage))
	}
	if err := writeShare(flag.Arg(0), *version); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(int(exitError))
	}
}

// completions are the shells and where each looks for what completes our words.
var completions = map[string]string{
	"bash": "bash-completion/completions/maptrace",
	"zsh":  "zsh/site-functions/_maptrace",
	"fish": "fish/vendor_completions.d/maptrace.fish",
}

// writeShare writes all files. The pages have the date of SOURCE_DATE_EPOCH, or
// today's.
func writeShare(dir, version string) error {
	date := time.Now()
	if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
		sec, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		date = time.Unix(sec, 0)
	}
	var topics []manual.Topic
	for _, t := range docs.Topics() {
		topics = append(topics, manual.Topic(t))
	}
	sections, err := topicSections()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	s := streams{nil, &out, &out}
	pages, err := manual.Pages(newRoot(s), manual.Options{
		Version: version,
		Date:    date,
		Help: func(c *cobra.Command) (string, error) {
			out.Reset()
			helpErr := c.Help()
			return out.String(), helpErr
		},
		SeeAlso: map[string][]string{
			"maptrace": {"pmap(1)", "proc(5)"},
			"pmap":     {"pmap(1)", "proc(5)"},
			"doctor":   {"capabilities(7)"},
		},
		Topics:  topics,
		Groups:  flagGroups,
		GroupOf: groupOf, Sections: sections,
	})
	if err != nil {
		return err
	}
	for _, p := range pages {
		if err := writeFile(filepath.Join(dir, "man/man"+filepath.Ext(p.Name)[1:], p.Name), p.Text); err != nil {
			return err
		}
	}
	for shell, path := range completions {
		out.Reset()
		if code := run(context.Background(), []string{"maptrace", "completion", shell}, s); code != exitOK {
			return fmt.Errorf("completion for %s: %s", shell, &out)
		}
		if err := writeFile(filepath.Join(dir, path), out.String()); err != nil {
			return err
		}
	}
	return nil
}

// parts are those of topics that the pages of commands have too: every column and figure.
var parts = []struct{ command, topic, heading, title string }{
	{"trace", "columns", "The columns of a change", "Columns of a change"},
	{"trace", "columns", "The columns of the table", "Columns of the table"},
	{"trace", "figures", "Figures of trace", "Figures"},
	{"grow", "growth", "The columns", "Columns"},
	{"grow", "figures", "Figures of grow", "Figures"},
	{"lat", "latency", "The columns", "Columns"},
	{"lat", "figures", "Figures of lat", "Figures"},
	{"pmap", "tables", "The columns", "Columns"},
}

// topicSections are these parts, by command.
func topicSections() (map[string][]manual.Section, error) {
	sections := make(map[string][]manual.Section)
	for _, p := range parts {
		topic, ok := findTopic([]string{p.topic})
		if !ok {
			return nil, fmt.Errorf("there is no topic %s", p.topic)
		}
		text, ok := topic.Section(p.heading)
		if !ok {
			return nil, fmt.Errorf("topic %s has no section %q", p.topic, p.heading)
		}
		sections[p.command] = append(sections[p.command], manual.Section{Title: p.title, Text: text})
	}
	return sections, nil
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
