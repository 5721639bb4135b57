package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
)

// exitCode is what the process ends with.
type exitCode int

// The exit codes, as docs/exit-status.md lists them.
const (
	exitOK          exitCode = 0
	exitError       exitCode = 1
	exitUsage       exitCode = 2
	exitGone        exitCode = 3
	exitUnsupported exitCode = 4
	exitDrift       exitCode = 5
	exitGrowth      exitCode = 6
	// exitUnread is what a shell makes of SIGPIPE: nobody reads the output any more, and
	// nothing is said of that.
	exitUnread exitCode = 128 + exitCode(unix.SIGPIPE)
)

// streams are where a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// codedError is an error that knows its exit code; with a nil cause it says
// nothing, because everything has been said.
type codedError struct {
	code  exitCode
	cause error
}

func (e *codedError) Error() string {
	if e.cause == nil {
		return "exit " + strconv.Itoa(int(e.code))
	}
	return e.cause.Error()
}

func (e *codedError) Unwrap() error { return e.cause }

func usagef(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// run is the whole program but for the exit itself.
func run(ctx context.Context, args []string, s streams) exitCode {
	args, name := args[1:], filepath.Base(args[0])
	// pmap is over in milliseconds, so the rest is not even set up for it.
	switch {
	case name == "pmap":
		return report(s.err, runPmap(ctx, s, "pmap", args))
	case len(args) > 0 && args[0] == readerCommand:
		return report(s.err, runReader(ctx, args[1:]))
	case len(args) > 0 && args[0] == "pmap":
		return report(s.err, runPmap(ctx, s, "maptrace pmap", args[1:]))
	case meansPmap(args):
		return report(s.err, runPmap(ctx, s, "maptrace", args))
	}
	root := newRoot(s)
	// Cobra would read its flags as those of the root.
	if word, ok := commandOf(args); ok && !strings.HasPrefix(word, "__") {
		if cmd, _, err := root.Find([]string{word}); err == nil && cmd == root {
			return report(s.err, unknownCommand(root, word))
		}
	}
	root.SetArgs(args)
	return report(s.err, root.ExecuteContext(forCompletion(ctx, root, args)))
}

// commandOf is the word of a command line that names the command.
func commandOf(args []string) (string, bool) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return "", false
	}
	return args[0], true
}

// meansPmap tells whether a command line without a command is one of pmap: it
// begins with a process, or with an option and has a process.
func meansPmap(args []string) bool {
	if len(args) == 0 {
		return false
	}
	return isPID(args[0]) || strings.HasPrefix(args[0], "-") && slices.ContainsFunc(args, isPID)
}

func isPID(s string) bool {
	_, err := strconv.ParseUint(strings.TrimPrefix(s, "/proc/"), 10, 31)
	return err == nil
}

// report prints an error in one line and chooses the exit code.
func report(w io.Writer, err error) exitCode {
	if err == nil {
		return exitOK
	}
	var coded *codedError
	if errors.As(err, &coded) && coded.cause == nil {
		return coded.code
	}
	fmt.Fprintf(w, "maptrace: %s\n", withHint(err))
	if coded != nil {
		return coded.code
	}
	return codeOf(err)
}

func codeOf(err error) exitCode {
	switch {
	case errors.Is(err, procmaps.ErrGone):
		return exitGone
	case errors.Is(err, fs.ErrPermission), errors.Is(err, ebpf.ErrNotSupported):
		return exitUnsupported
	}
	return exitError
}

// withHint adds to an error what would help, in one line. An error may hold the
// name of a process, so it is escaped.
func withHint(err error) string {
	msg := table.Escape(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	hint := ""
	switch {
	case errors.Is(err, tracer.ErrPermission):
		hint = permissionHint() + "; 'maptrace trace --poll' needs none of that for your own processes"
	case errors.Is(err, fs.ErrPermission):
		var have privilege.Set // of a process that cannot know it: none
		if s, failed := privilege.Current(); failed == nil {
			have = s.Permitted
		}
		hint = foreignHint(have)
	case errors.Is(err, tracer.ErrArchitecture):
		hint = "'maptrace trace --poll' and 'maptrace pmap' need none"
	case errors.Is(err, tracer.ErrForeignClock):
		// It says what to do.
	case errors.Is(err, ebpf.ErrNotSupported):
		hint = "'maptrace doctor' tells what this kernel lacks"
	case errors.Is(err, syscall.ENOMEM):
		hint = "the kernel has no memory for the programs or the ring: try a smaller --ring"
	}
	if hint == "" {
		return msg
	}
	return msg + ": " + hint
}

// foreignHint says why a process with these capabilities may not read another.
func foreignHint(have privilege.Set) string {
	if have.Has(unix.CAP_SYS_PTRACE) {
		return "CAP_SYS_PTRACE is there: a security module or a sandbox forbids it"
	}
	return "other users' processes need root or CAP_SYS_PTRACE"
}

func newRoot(s streams) *cobra.Command {
	var ask bool
	root := &cobra.Command{
		Use:   "maptrace",
		Short: "A live pmap: which mappings a process has, and what changes them",
		Long: `Which command?

    A process gets larger and larger    maptrace grow PID
    A test must not leak                maptrace grow --fail-on leaks -- CMD
    Which call has mapped this?         maptrace trace PID
    mmap is slow, threads wait for it   maptrace lat PID
    Where is the memory, now?           maptrace pmap -x PID
    It crashed: what is there?          maptrace explain ADDRESS PID
    A first look at what changes        maptrace pmap --watch 2 --changed PID
    No root, or it does not work        maptrace doctor

maptrace shows the memory mappings of a process, and traces every change of them
as the kernel makes it, without stopping the process or putting anything into
it. "maptrace [options] PID" is "maptrace pmap [options] PID".

Exit status: 0 done; 1 error; 2 wrong usage; 3 the target is gone or not there;
4 not permitted or not supported; 5 drift was found, or could not be ruled out;
6 a limit of grow --fail-on was broken.`,
		Example: `  maptrace grow 1234           which memory grows, and the code that grows it
  maptrace trace -- make all   every change of a command's mappings
  maptrace demo                see it find the leak of a small program`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ask {
				return printVersion(s)
			}
			return cmd.Help()
		},
	}
	root.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if begun == "" || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completePIDs(nil)(begun) // of pmap, without its name
	}
	// Cobra's own --version would be -v too, which is something else to the commands,
	// and would link text/template: 2 MB.
	root.Flags().BoolVar(&ask, "version", false, "print the version")
	root.SetFlagErrorFunc(flagMistake)
	root.AddCommand(newTrace(s), newGrow(s), newLat(s), newPmap(s), newExplain(s), newDoctor(s), newDemo(s), newLeaky(), newVersion(s))
	root.SetHelpCommand(newHelp(s))
	root.InitDefaultHelpCmd() // now, to be like the others
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(s.out, cmd) })
	root.Args = noCommand
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.InitDefaultCompletionCmd() // likewise
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			for _, shell := range c.Commands() {
				shell.Args = noArguments
				if how, ok := shellHowTo[shell.Name()]; ok {
					shell.Short, shell.Long = "Print what completes maptrace's words in "+shell.Name(), how
				}
			}
			c.Args, c.RunE = noCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	checkUsage(root)
	return root
}

// shellHowTo says how to have words completed by a shell.
var shellHowTo = map[string]string{
	"bash": `Packages, and "make install", install this. Without, for all users; the package
bash-completion is needed:

    maptrace completion bash >/etc/bash_completion.d/maptrace`,
	"zsh": `Packages, and "make install", install this. Without, for all users:

    maptrace completion zsh >/usr/local/share/zsh/site-functions/_maptrace`,
	"fish": `Packages, and "make install", install this. Without:

    maptrace completion fish >~/.config/fish/completions/maptrace.fish`,
}

// noCommand refuses arguments of commands that only have subcommands.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return nil
}

// checkUsage gives a command and those below it usageArgs.
func checkUsage(cmd *cobra.Command) {
	cmd.Args = usageArgs(cmd.Args)
	for _, c := range cmd.Commands() {
		checkUsage(c)
	}
}

// usageArgs gives errors about arguments the usage exit code.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &codedError{exitUsage, err}
		}
		return nil
	}
}

func newVersion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return printVersion(s) },

		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

func printVersion(s streams) error {
	_, err := fmt.Fprintln(s.out, "maptrace", version())
	return err
}

// version is what the build says of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}

// isTerminal tells whether w is a terminal. Other character devices, such as
// /dev/null, are none.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	is := false
	control(f, func(fd int) { is = term.IsTerminal(fd) })
	return is
}
