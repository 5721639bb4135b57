package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/getopt"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/container"
)

// What shells complete our words with. They put it on command lines, some of them by
// evaluating it, and processes and containers are called what their users like: names that
// hold anything but letters, digits and a few signs are not offered.

const (
	noFiles = cobra.ShellCompDirectiveNoFileComp
	goesOn  = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
)

// completer offers what a word that was begun may become, with its description behind a tab.
type completer = func(begun string) ([]string, cobra.ShellCompDirective)

// offer is a word and what it is.
func offer(word, what string) string {
	if what == "" {
		return word
	}
	return cobra.CompletionWithDesc(word, what)
}

// harmless tells whether no shell makes anything else of a word.
func harmless(word string) bool {
	return word != "" && word[0] != '-' && !strings.ContainsFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.+/@:", r)
	})
}

// described is a description with what is not harmless left out.
func described(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' || harmless("x"+string(r)) {
			return r
		}
		return '?'
	}, text)
}

// oneOf offers words.
func oneOf(words ...string) completer {
	return func(string) ([]string, cobra.ShellCompDirective) { return words, noFiles }
}

// listOf offers the words of a list with commas, each once.
func listOf(words []string) completer {
	return func(begun string) (out []string, _ cobra.ShellCompDirective) {
		at := strings.LastIndexByte(begun, ',') + 1
		given := strings.Split(begun[:at], ",")
		for _, w := range words {
			if !slices.Contains(given, w) {
				out = append(out, begun[:at]+w)
			}
		}
		return out, goesOn
	}
}

// unit is one of a size or a time.
type unit struct{ short, long string }

// inUnits offers a number that was begun in each unit, and without a number what is usual.
func inUnits(all []unit, usual ...string) completer {
	return func(begun string) (out []string, _ cobra.ShellCompDirective) {
		if begun == "" {
			return usual, noFiles
		}
		if strings.Trim(begun, "0123456789") != "" {
			return nil, noFiles
		}
		for _, u := range all {
			out = append(out, offer(begun+u.short, u.long))
		}
		return out, noFiles
	}
}

func completeSpan(begun string) ([]string, cobra.ShellCompDirective) {
	all := []unit{{"ms", "milliseconds"}, {"s", "seconds"}, {"m", "minutes"}, {"h", "hours"}, {"d", "days"}}
	return inUnits(all, "10s", "30s", "1m", "10m", "1h", "1d")(begun)
}

func completeSize(begun string) ([]string, cobra.ShellCompDirective) {
	all := []unit{{"K", "KiB"}, {"M", "MiB"}, {"G", "GiB"}, {"T", "TiB"}}
	return inUnits(all, "4K", "64K", "1M", "16M", "256M", "1G")(begun)
}

// eachProcess calls f with each process that has memory, but not ourselves.
func eachProcess(f func(st *procmaps.Stat)) {
	fs := procmaps.Default()
	pids, _ := fs.Pids() // without there is nothing to offer
	for _, pid := range pids {
		p, err := fs.Process(pid)
		if err != nil {
			continue
		}
		if st, err := p.Stat(); err == nil && !st.KernelThread() && !st.Ended() && pid != os.Getpid() {
			f(st)
		}
		_ = p.Close() // it was only read
	}
}

// completePIDs offers processes, with their names and sizes, but for those that were given.
func completePIDs(given []string) completer {
	return func(begun string) (out []string, _ cobra.ShellCompDirective) {
		page := uint64(os.Getpagesize())
		eachProcess(func(st *procmaps.Stat) {
			pid := strconv.Itoa(st.PID)
			if strings.HasPrefix(pid, begun) && !slices.Contains(given, pid) {
				out = append(out, offer(pid, described(st.Comm)+", "+units.Bytes(float64(st.RSSPages*page))))
			}
		})
		return out, noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeComms offers the names of processes.
func completeComms(string) (out []string, _ cobra.ShellCompDirective) {
	count := make(map[string]uint64)
	eachProcess(func(st *procmaps.Stat) { count[st.Comm]++ })
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if harmless(name) {
			out = append(out, offer(name, units.Count(count[name], "process")))
		}
	}
	return out, noFiles
}

// completeThreads offers the threads of processes.
func completeThreads(given []string) completer {
	return func(string) (out []string, _ cobra.ShellCompDirective) {
		fs := procmaps.Default()
		for _, word := range given {
			pid, _ := processNumber(word)
			p, err := fs.Process(pid)
			if err != nil {
				continue
			}
			tids, _ := p.Threads() // it may be gone by now
			for _, tid := range tids {
				out = append(out, offer(strconv.Itoa(tid), "of "+word))
			}
			_ = p.Close() // it was only read
		}
		return out, noFiles
	}
}

// completeCgroups offers the cgroups that have processes.
func completeCgroups(string) (out []string, _ cobra.ShellCompDirective) {
	paths := make(map[string]bool)
	fs := procmaps.Default()
	eachProcess(func(st *procmaps.Stat) {
		p, err := fs.Process(st.PID)
		if err != nil {
			return
		}
		defer p.Close()
		groups, _ := p.Cgroup() // it may be gone by now
		for _, g := range groups {
			if g.Path != "/" && harmless(g.Path) {
				paths[g.Path] = true
			}
		}
	})
	return slices.Sorted(maps.Keys(paths)), noFiles
}

// completeContainers offers containers by name, and by ID those whose name is not known.
func completeContainers(string) (out []string, _ cobra.ShellCompDirective) {
	// What they are called is read as for --container.
	state, err := privilege.Current()
	if err != nil {
		return nil, noFiles
	}
	reader, err := startReader(await.New(), privilege.Of(unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE)&state.Permitted)
	if err != nil {
		return nil, noFiles
	}
	defer func() { _ = reader.Close() }() // it has read what it was for
	all, _ := container.Finder{Proc: procmaps.Default()}.Containers()
	for _, c := range all {
		const digits = 12
		word := c.ID[:min(len(c.ID), digits)]
		what := c.Runtime
		if len(c.Names) > 0 && harmless(c.Names[0]) {
			word, what = c.Names[0], strings.TrimSpace(c.Runtime+" "+word)
		}
		out = append(out, offer(word, what))
	}
	return out, noFiles
}

// valueCompleter is what completes the value of a flag, nil if it is a file.
func valueCompleter(f *pflag.Flag, args []string) completer {
	switch f.Name {
	case "pid":
		return completePIDs(args)
	case "tid":
		return completeThreads(args)
	case "comm":
		return completeComms
	case "cgroup":
		return completeCgroups
	case "container":
		return completeContainers
	case "op":
		return listOf(operations)
	case "kind":
		return listOf(procmaps.KindNames())
	case "fail-on":
		return oneOf("leaks", "growth > 10MiB/min", "heap growth > 1MiB/min")
	case "path":
		return oneOf()
	}
	switch f.Value.Type() {
	case "duration", "interval":
		return completeSpan
	case "size":
		return completeSize
	case "percentage":
		return oneOf("0.5", "1", "2", "5", "10")
	case "format":
		return oneOf(formats...)
	case "int":
		return oneOf()
	}
	return nil
}

// completing marks the context of completion. The value tells whether the command line has a
// command behind --, which cobra does not say.
type completing struct{}

// forCompletion prepares for completing words, if that is what a command line asks for.
func forCompletion(ctx context.Context, root *cobra.Command, args []string) context.Context {
	if len(args) < 2 || args[0] != cobra.ShellCompRequestCmd && args[0] != cobra.ShellCompNoDescRequestCmd {
		return ctx
	}
	for _, c := range root.Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = inShort(f) })
	}
	return context.WithValue(ctx, completing{}, slices.Contains(args[1:len(args)-1], "--"))
}

// inShort is what a flag does, in a few words.
func inShort(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	end := len(usage)
	for _, mark := range []string{"; ", ", ", ": ", " ("} {
		if at := strings.Index(usage, mark); at > 0 {
			end = min(end, at)
		}
	}
	return usage[:end]
}

// addFlagCompletion has a command complete the values of its flags, and offer no files as its
// arguments.
func addFlagCompletion(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if valueCompleter(f, nil) == nil {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return valueCompleter(f, append(args, givenPIDs(cmd)...))(begun)
		}) // it is a flag of the command, and has none yet
	})
	cmd.ValidArgsFunction = cobra.NoFileCompletions
}

// addTargetCompletion has a command that traces complete processes too.
func addTargetCompletion(cmd *cobra.Command) {
	addFlagCompletion(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if cmd.Context().Value(completing{}) == true {
			return nil, cobra.ShellCompDirectiveDefault // of the command that is traced
		}
		return completePIDs(append(args, givenPIDs(cmd)...))(begun)
	}
}

// givenPIDs are those of -p.
func givenPIDs(cmd *cobra.Command) []string {
	f := cmd.Flags().Lookup("pid")
	if f == nil {
		return nil
	}
	v, _ := f.Value.(numbersValue)
	return v.GetSlice()
}

// completePmap completes the words of pmap, which are not cobra's to read.
func completePmap(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if o := lastOption(args[len(args)-1]); o != nil && o.Arg != "" {
			return pmapValue(o, begun)
		}
	}
	name, value, given := strings.Cut(begun, "=")
	if given {
		o := lastOption(name)
		if o == nil || o.Arg == "" {
			return nil, noFiles
		}
		words, directive := pmapValue(o, value)
		out := make([]string, len(words))
		for i, word := range words {
			out[i] = name + "=" + word
		}
		return out, directive
	}
	if strings.HasPrefix(begun, "-") {
		return pmapOptionWords(), noFiles
	}
	return completePIDs(args)(begun)
}

// lastOption is the option that a word ends with, nil if it is none.
func lastOption(word string) *getopt.Option {
	for i := range pmapFlags {
		o := &pmapFlags[i]
		long := o.Long != "" && word == "--"+o.Long
		short := o.Short != 0 && len(word) > 1 && word[0] == '-' && word[1] != '-' && word[len(word)-1] == o.Short
		if long || short {
			return o
		}
	}
	return nil
}

func pmapOptionWords() (out []string) {
	for _, o := range pmapFlags {
		if o.Long != "" {
			out = append(out, offer("--"+o.Long, o.Help))
		}
		if o.Short != 0 {
			out = append(out, offer("-"+string(o.Short), o.Help))
		}
	}
	return out
}

// pmapValue completes the value of an option.
func pmapValue(o *getopt.Option, begun string) ([]string, cobra.ShellCompDirective) {
	switch o.Long {
	case "kind":
		return listOf(procmaps.KindNames())(begun)
	case "group":
		return table.Groupings, noFiles
	case "sort":
		return []string{"size", "rss", "pss", "dirty", "swap"}, noFiles
	case "compat":
		return []string{"4.0.2", "4.0.7"}, noFiles
	case "watch", "for":
		return completeSpan(begun)
	case "top", "count", "range":
		return nil, noFiles
	}
	return nil, cobra.ShellCompDirectiveDefault
}
