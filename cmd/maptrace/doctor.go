package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/sample"
)

func newDoctor(s streams) *cobra.Command {
	var form, toFile string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this kernel and these privileges permit",
		Long: `doctor tries everything that tracing needs, each for real: every program is
loaded, attached and detached again. For what does not work it says why, and
which capability or setting would help. Then it shows the support level that you
have, from everything to pmap alone, and what the next one needs. Its exit
status is 0 if tracing works, 4 if not.

More: "maptrace help kernels", "maptrace help privileges".`,
		Example: `  maptrace doctor
  sudo maptrace doctor --json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return printTo(s.out, toFile, func(out io.Writer) error { return runDoctor(out, form) })
		},
	}
	addOutputFlags(cmd, &form, &toFile)
	addFlagCompletion(cmd)
	return cmd
}

// diagnosis is what doctor finds.
type diagnosis struct {
	Event     string `json:"event"` // summary
	Kernel    string `json:"kernel"`
	User      string `json:"user"`
	Lockdown  string `json:"lockdown"`
	Namespace string `json:"pid_namespace"`
	Works     bool   `json:"works"`
	Level     int    `json:"level"`
	Needs     string `json:"needs,omitempty"` // what the level above does

	checks  []checked
	support support
}

// checked is one thing that was tried.
type checked struct {
	Event   string `json:"event"`   // check
	Verdict string `json:"verdict"` // ok, less or FAIL
	Name    string `json:"name"`
	What    string `json:"what"`
	Why     string `json:"why,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// diagnose tries everything.
func diagnose() (*diagnosis, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	nsErr := checkProc(procmaps.Default())
	d := &diagnosis{
		Event:  "summary",
		Kernel: unix.ByteSliceToString(uts.Release[:]) + " " + unix.ByteSliceToString(uts.Machine[:]),
		User:   fmt.Sprintf("uid %d, %s", os.Geteuid(), capabilities()), Lockdown: lockdown(), Namespace: okOr(nsErr, pidNamespace()),
		Works: nsErr == nil, support: support{numbered: true},
	}
	denied := false
	for _, c := range bpf.Probe() {
		d.support.numbered = d.support.numbered && (c.Name != bpf.SectionCheck || c.Err == nil)
		// Without the permission for a map, what maps the kernel knows cannot be
		// told either: that looks like an old kernel.
		if denied && !c.Optional && errors.Is(c.Err, ebpf.ErrNotSupported) {
			c.Err = errUntold
		}
		d.probed(&c, denied)
		denied = denied || errors.Is(c.Err, os.ErrPermission)
	}
	d.smapsCheck()
	d.lesserCapabilities()
	d.support.traces = d.Works
	d.support.lacks = cmp.Or(d.support.lacks, "a kernel with CONFIG_PROC_PAGE_MONITOR")
	d.support.pollErr = cmp.Or(nsErr, pollCheck()) // without a /proc of ours looks show others
	d.Level, d.Needs = d.support.level()
	return d, nil
}

// probed adds a check of the kernel. Where others were not permitted before it, that it is not
// permitted either is not said again.
func (d *diagnosis) probed(c *bpf.Check, denied bool) {
	r := checked{Verdict: "ok", Name: c.Name, What: c.What}
	switch {
	case c.Err == nil && c.Name == bpf.WatchpointCheck && sample.Paranoid(procmaps.Default()):
		r.Hint = "kernel.perf_event_paranoid is above 2: grow does so with --watchpoints 4, and keeps CAP_SYS_ADMIN for it"
	case c.Err == nil:
	case errors.Is(c.Err, os.ErrPermission):
		if !denied {
			// What else they advise is for kernels before 5.11.
			why, _, _ := strings.Cut(oneLine(c.Err), " (MEMLOCK ")
			r.Why, r.Hint = why, permissionHint()
		}
	default:
		r.Why, r.Hint = oneLine(c.Err), probeHint(c.Err)
	}
	if c.Err != nil {
		r.Verdict = "less"
		if !c.Optional {
			r.Verdict, d.Works = "FAIL", false
			d.support.lacks = cmp.Or(d.support.lacks, probeHint(c.Err), oneLine(c.Err))
		}
	}
	d.add(r)
}

func (d *diagnosis) add(c checked) {
	c.Event = "check"
	if n := len(d.checks); n > 0 && d.checks[n-1].Hint == c.Hint {
		c.Hint = "" // it was said
	}
	d.checks = append(d.checks, c)
}

func runDoctor(w io.Writer, form string) error {
	d, err := diagnose()
	if err != nil {
		return err
	}
	switch form {
	case jsonForm:
		err = d.writeJSON(w)
	case csvForm:
		err = d.writeCSV(w)
	default:
		_, err = io.WriteString(w, d.text())
	}
	if err == nil && !d.Works {
		err = &codedError{code: exitUnsupported}
	}
	return err
}

// text is what people read.
func (d *diagnosis) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel        %s\nuser          %s\nlockdown      %s\npid namespace %s\n\n", d.Kernel, d.User, d.Lockdown, d.Namespace)
	for _, c := range d.checks {
		fmt.Fprintf(&b, "%-4s  %-26s %s\n", c.Verdict, c.Name, c.What)
		if c.Why != "" {
			fmt.Fprintf(&b, "      %s\n", c.Why)
		}
		if c.Hint != "" {
			fmt.Fprintf(&b, "      -> %s\n", c.Hint)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", d.support.text())
	if d.Works {
		b.WriteString("tracing works here\n")
	} else {
		b.WriteString("tracing does not work here\n")
	}
	return b.String()
}

func (d *diagnosis) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for i := range d.checks {
		if err := enc.Encode(&d.checks[i]); err != nil {
			return err
		}
	}
	return enc.Encode(d)
}

func (d *diagnosis) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"verdict", "name", "what", "why", "hint"}}
	for _, c := range d.checks {
		rows = append(rows, []string{c.Verdict, c.Name, c.What, c.Why, c.Hint})
	}
	return out.WriteAll(rows)
}

// support is what decides on the support level.
type support struct {
	traces, numbered bool
	lacks            string // what tracing lacks
	pollErr          error  // why looking at /proc does not work
}

// supportLevels, the best first.
var supportLevels = [...]string{
	"everything: changes in the order of the mmap lock's sections, and proof that none was missed",
	"tracing: changes in the order of their commit times, without that proof",
	"trace --poll: what differs between two looks at the maps of your own processes",
	"pmap: single looks at your own processes",
}

// level is the one that there is, from 1, and what the one above needs.
func (l *support) level() (n int, needs string) {
	switch {
	case l.traces && l.numbered:
		return 1, ""
	case l.traces:
		return 2, "Linux 6.4 or later with CONFIG_PER_VMA_LOCK"
	case l.pollErr == nil:
		return 3, l.lacks
	}
	return 4, oneLine(l.pollErr)
}

// text shows all levels, and marks the one that there is.
func (l *support) text() string {
	n, needs := l.level()
	var b strings.Builder
	b.WriteString("support levels:\n")
	for i, what := range supportLevels {
		mark := "  "
		if i+1 == n {
			mark = "->"
		}
		fmt.Fprintf(&b, "%s %d  %s\n", mark, i+1, what)
	}
	if n > 1 {
		fmt.Fprintf(&b, "level %d needs: %s\n", n-1, needs)
	}
	return b.String()
}

// pollCheck tries what --poll needs.
func pollCheck() error {
	fs := procmaps.Default()
	p, err := fs.Process(os.Getpid())
	if err != nil {
		return err
	}
	defer p.Close()
	a, err := p.OpenAddressSpace()
	if err != nil {
		return err
	}
	_, err = fs.Pids()
	return errors.Join(err, a.Close())
}

// lesserCapabilities adds what is less without capabilities that tracing as such does not
// need.
func (d *diagnosis) lesserCapabilities() {
	have, err := privilege.Current()
	if err != nil {
		return // the first lines say so
	}
	for _, c := range []struct {
		cap        int
		name, what string
	}{
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "processes of other users, and those that hide from their own"},
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "counting their resident memory, and names from files that are theirs alone"},
		{unix.CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE", "names from files that were replaced or deleted"},
	} {
		verdict := "ok"
		if !have.Effective.Has(c.cap) {
			verdict = "less"
		}
		d.add(checked{Verdict: verdict, Name: c.name, What: c.what})
	}
}

// smapsCheck tries what trees are seeded from.
func (d *diagnosis) smapsCheck() {
	c := checked{Verdict: "ok", Name: "smaps", What: "the mappings that are there when tracing begins"}
	p, err := procmaps.Default().Process(os.Getpid())
	if err == nil {
		_, err = p.Smaps()
		err = errors.Join(err, p.Close())
	}
	if err != nil {
		c.Verdict, c.Why, d.Works = "FAIL", oneLine(err)+" (CONFIG_PROC_PAGE_MONITOR)", false
	}
	d.add(c)
}

// errUntold is the verdict on what only those who may trace can try.
var errUntold = fmt.Errorf("not tried: %w", os.ErrPermission)

func okOr(err error, ok string) string {
	if err != nil {
		return err.Error()
	}
	return ok
}

// pidNamespace says whose processes can be seen.
func pidNamespace() string {
	if bpf.Nested() {
		return "a container's: only its own processes can be seen and traced"
	}
	return "the host's"
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// probeHint is what would help.
func probeHint(err error) string {
	switch {
	case errors.Is(err, bpf.ErrArchitecture):
		return "" // no kernel helps
	case errors.Is(err, os.ErrPermission):
		return permissionHint()
	case errors.Is(err, unix.ENOMEM):
		return "the kernel is out of memory for this"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "this kernel lacks it: Linux 6.1 or later with CONFIG_DEBUG_INFO_BTF has it"
	}
	return ""
}

// permissionHint is what would help where the kernel refuses BPF programs.
func permissionHint() string {
	switch {
	case inUserNamespace():
		return "tracing needs capabilities of the host, which root in a user namespace (a rootless container) has not"
	case os.Geteuid() != 0:
		hint := "tracing needs root, or CAP_BPF and CAP_PERFMON, and CAP_SYS_PTRACE for other users' processes, of which" +
			" grow needs CAP_DAC_READ_SEARCH too (setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep maptrace)"
		need := privilege.Of(unix.CAP_BPF, unix.CAP_PERFMON)
		if state, err := privilege.Current(); err == nil && state.Effective&need != 0 && need&^state.Effective != 0 {
			hint += ": missing is " + inCapitals(need&^state.Effective)
		}
		return hint
	case strings.HasPrefix(lockdown(), "confidentiality"):
		return "the kernel is locked down for confidentiality: boot with lockdown=integrity or without"
	}
	return "CAP_BPF and CAP_PERFMON are needed; a container gets them with --cap-add"
}

// inUserNamespace tells whether our user numbers are not the host's, and our
// capabilities with them: user_namespaces(7).
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(b))
	return err == nil && !slices.Equal(f, []string{"0", "0", "4294967295"})
}

// lockdown is the active mode of the kernel's lockdown.
func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "none, or not shown (securityfs is not mounted)"
	}
	_, rest, ok := strings.Cut(string(b), "[")
	mode, _, ok2 := strings.Cut(rest, "]")
	if !ok || !ok2 {
		return "unknown"
	}
	return mode
}

// capabilities names those that matter and are effective.
func capabilities() string {
	state, err := privilege.Current()
	if err != nil {
		return "capabilities unknown: " + err.Error()
	}
	var have, lack []string
	for _, c := range []struct {
		name string
		bit  int
	}{
		{"CAP_BPF", unix.CAP_BPF},
		{"CAP_PERFMON", unix.CAP_PERFMON},
		{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
		{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	} {
		if state.Effective.Has(c.bit) {
			have = append(have, c.name)
		} else {
			lack = append(lack, c.name)
		}
	}
	text := "has " + strings.Join(have, ", ")
	if len(have) == 0 {
		text = "has none of the capabilities that matter"
	}
	if len(lack) > 0 {
		text += "; lacks " + strings.Join(lack, ", ")
	}
	return text
}
