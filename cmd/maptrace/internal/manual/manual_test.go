package manual

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func nothing(*cobra.Command, []string) error { return nil }

// tree has one of everything that pages are made from.
func tree() *cobra.Command {
	root := &cobra.Command{
		Use: "prog", Short: "Do things", Long: "prog does things.\n\nExit status: 0 done; 1 error; 2\nwrong usage.", RunE: nothing,
	}
	walk := &cobra.Command{
		Use: "walk [flags] {-p PID | -- CMD [ARG…]}", Short: "Walk 'round", RunE: nothing,
		Long:    ".walk *walks*; see --for, well-known -p and \\ 5-6_7_8.\n\n    cd ~\n\nIt ends at ^C.\nMore: \"prog help road\".",
		Example: "  prog walk -p 1    once around\n  prog walk -- ls",
	}
	walk.Flags().IntP("pid", "p", 0, "walk around `PID`")
	walk.Flags().Duration("for", time.Second, "stop after this long")
	walk.Flags().Bool("secret", false, "none of your business")
	_ = walk.Flags().MarkHidden("secret")
	old := &cobra.Command{Use: "old", Short: "Be old", RunE: nothing, DisableFlagParsing: true}
	old.SetHelpFunc(func(c *cobra.Command, _ []string) { c.Print(oldHelp) })
	hidden := &cobra.Command{Use: "hidden", Hidden: true, RunE: nothing}
	root.AddCommand(walk, old, hidden)
	return root
}

const oldHelp = `
Usage:
 prog old [options] PID [PID ...]

Options:
 -x, --extended   show details
 -X               show more
            WARNING: format changes
 -A, --range=<low>[,<high>]  limit

 -h, --help  help

For more see pmap(1).

Only here:
 --top=N   the first N

Exit status: 0 done; 42 if it is not there.
`

func pages(t *testing.T, root *cobra.Command) map[string]string {
	t.Helper()
	list, err := Pages(root, Options{
		Version: "1.2",
		Date:    time.Date(2026, 2, 3, 23, 0, 0, 0, time.FixedZone("", -3600)),
		Help: func(c *cobra.Command) (string, error) {
			var b strings.Builder
			c.SetOut(&b)
			err := c.Help()
			return b.String(), err
		},
		SeeAlso: map[string][]string{"old": {"pmap(1)"}},
		Topics: []Topic{
			{"pace", "how fast", "See `prog help road`. Not `prog help`.\n\n## Steps\n\n- `LEFT`: one\n- `RIGHT`: other\n\nSo:\n\n" +
				"```\n$ prog walk --for 1h\n\n## no heading, \\ and `\n```\n"},
			{"road", "where", "Here."},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, p := range list {
		texts[p.Name] = p.Text
	}
	return texts
}

func TestAPageSaysWhatFlagsAndHelpDo(t *testing.T) {
	t.Parallel()
	const want = `.nh
.TH "PROG-WALK" "1" "2026-02-04" "prog 1.2" "User Commands"
.SH NAME
prog\-walk \- walk \(aqround
.SH SYNOPSIS
\fBprog walk\fP [\fIflags\fP] {\fB\-p\fP \fIPID\fP | \fB\-\-\fP \fICMD\fP [\fIARG…\fP]}
.SH DESCRIPTION
\&.walk *walks*; see \fB\-\-for\fP, well\-known \fB\-p\fP and \e 5\-6_7_8.
.EX
cd \(ti
.EE
.PP
It ends at \(haC.
More: "prog help road".
.SH OPTIONS
.TP
\fB\-\-for\fP \fIduration\fP
stop after this long (default 1s)
.TP
\fB\-h\fP, \fB\-\-help\fP
help for walk
.TP
\fB\-p\fP, \fB\-\-pid\fP \fIPID\fP
walk around PID
.SH EXIT STATUS
.TP
\fB0\fP
done
.TP
\fB1\fP
error
.TP
\fB2\fP
wrong usage
.SH EXAMPLES
.TP
\fBprog walk \-p 1\fP
once around
.PP
\fBprog walk \-\- ls\fP
.SH SEE ALSO
\fBprog\fP(1),
\fBprog\-old\fP(1),
\fBprog\-road\fP(7)
`
	if diff := cmp.Diff(want, pages(t, tree())["prog-walk.1"]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPageOfForeignHelpHasItsOptions(t *testing.T) {
	t.Parallel()
	const want = `.nh
.TH "PROG-OLD" "1" "2026-02-04" "prog 1.2" "User Commands"
.SH NAME
prog\-old \- be old
.SH SYNOPSIS
\fBprog old\fP [\fIoptions\fP] \fIPID\fP [\fIPID\fP ...]
.SH DESCRIPTION
For more see pmap(1).
.SH OPTIONS
.TP
\fB\-x\fP, \fB\-\-extended\fP
show details
.TP
\fB\-X\fP
show more
.br
WARNING: format changes
.TP
\fB\-A\fP, \fB\-\-range\fP=\fIlow[,high]\fP
limit
.TP
\fB\-h\fP, \fB\-\-help\fP
help
.SH Only here
.TP
\fB\-\-top\fP=\fIN\fP
the first N
.SH EXIT STATUS
.TP
\fB0\fP
done
.TP
\fB42\fP
if it is not there
.SH SEE ALSO
\fBprog\fP(1),
\fBprog\-walk\fP(1),
\fBpmap\fP(1)
`
	if diff := cmp.Diff(want, pages(t, tree())["prog-old.1"]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestATopicIsAPageOfSection7(t *testing.T) {
	t.Parallel()
	const want = `.nh
.TH "PROG-PACE" "7" "2026-02-04" "prog 1.2" "prog manual"
.SH NAME
prog\-pace \- how fast
.SH DESCRIPTION
See \fBprog help road\fR\&. Not \fBprog help\fR\&.
.SS Steps
.IP \(bu 2
\fBLEFT\fR: one
.IP \(bu 2
\fBRIGHT\fR: other
.PP
So:
.EX
$ prog walk \-\-for 1h

## no heading, \e and \(ga
.EE
.SH SEE ALSO
\fBprog\fP(1),
\fBprog\-road\fP(7)
`
	if diff := cmp.Diff(want, pages(t, tree())["prog-pace.7"]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheFirstPageListsTheOthers(t *testing.T) {
	t.Parallel()
	all := pages(t, tree())
	want := []string{"prog-old.1", "prog-pace.7", "prog-road.7", "prog-walk.1", "prog.1"}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
	for _, want := range []string{
		".SH COMMANDS\n.TP\n\\fBold\\fP\nBe old; see \\fBprog\\-old\\fP(1).\n",
		".SH TOPICS\nEach is a page of its own, \\fBprog\\-TOPIC\\fP(7).\n.TP\n\\fBpace\\fP\nhow fast\n",
		"\\fBprog\\fP [\\fIflags\\fP]\n.br\n\\fBprog\\fP [\\fIcommand\\fP]\n",
	} {
		if !strings.Contains(all["prog.1"], want) {
			t.Errorf("no %q in:\n%s", want, all["prog.1"])
		}
	}
	if strings.Contains(all["prog.1"], "hidden") || strings.Contains(all["prog.1"], "Exit status") {
		t.Errorf("what does not belong there is in:\n%s", all["prog.1"])
	}
}

func TestPagesRefuseHelpThatTheyWouldLose(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, help, want string }{
		{"nothing", "", "no usage"},
		{"no options", "Usage:\n prog\n", "no usage, or no options"},
		{"an option without a heading", " -x  help\n", "no heading"},
		{"a continuation without an option", "Usage:\n prog\nOptions:\n    more\n", "no option"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseHelp(tt.help); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	root := tree()
	root.Long = "prog does things."
	if _, err := Pages(root, Options{}); err == nil || !strings.Contains(err.Error(), "Exit status") {
		t.Errorf("error %v for a help without exit status", err)
	}
}
