//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// mixture is what runs while maptrace is watched, in a shell: everything that
// changes mappings, processes that come and go, a server of JavaScript, and a
// database under load. $1 is the churn program, $2 a folder that everybody may
// write to, $3 where PostgreSQL's programs are. It runs until it is killed.
const mixture = `
(while :; do "$1" -t 4 -n 20000 -s $$ >/dev/null || exit; sleep 1; done) &
(while :; do i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done; sleep 1; done) &
if command -v node >/dev/null; then
	node -e 'let kept = []; setInterval(() => {
		kept.push(Buffer.alloc(300000, 1)); if (kept.length > 50) kept = kept.slice(40);
		const junk = []; for (let i = 0; i < 20000; i++) junk.push({i, s: "x" + i});
	}, 50)' &
fi
if [ -n "$3" ]; then
	pg() { runuser -u postgres -- "$@" >/dev/null 2>&1; }
	pg "$3/initdb" -D "$2/data" -A trust --no-sync
	pg "$3/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off &
	until pg "$3/psql" -h "$2" -c 'select 1' postgres; do sleep 0.5; done
	pg "$3/pgbench" -h "$2" -i -s 5 postgres
	while :; do pg "$3/pgbench" -h "$2" -C -c 4 -T 20 -R 100 postgres; sleep 1; done &
fi
wait
`

// watched is a maptrace that is at work for a long time.
type watched struct {
	name string
	*child
	out string
	// KiB, in turn: of all, and of what is no file's and not shared with the kernel.
	resident, anonymous []float64
	cpu                 time.Duration
}

const soakEvery = 5 * time.Second

// soak is the part about a long time: memory that stays flat, and nothing lost.
func (b *bench) soak(ctx context.Context) (err error) {
	defer b.note("soak: %v", b.soakFor)()
	churn, err := b.compile(ctx, filepath.Join(b.workload, "churn.c"))
	if err != nil {
		return err
	}
	dir, postgres, err := b.database()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, endMixture(dir), os.RemoveAll(dir)) }()
	trace := watched{name: "trace --verify", out: b.file("trace")}
	trace.child = newChild(b.maptrace, "trace", "--summary-only", "--verify", "--json", "--to", trace.out, "--for", b.soakFor.String(),
		"--", "sh", "-c", mixture, "sh", churn, dir, postgres)
	if err = trace.start(); err != nil {
		return err
	}
	defer trace.kill()
	var shell int
	err = await(ctx, "the mixture runs", time.Minute, 50*time.Millisecond, func() (bool, error) {
		shell = childNamed(trace.pid(), "sh")
		return shell != 0, trace.alive()
	})
	if err != nil {
		return err
	}
	grow := watched{name: "grow", out: b.file("grow")}
	grow.child = newChild(b.maptrace, "grow", "--json", "--to", grow.out, "--for", b.soakFor.String(), "-p", strconv.Itoa(shell))
	if err = grow.start(); err != nil {
		return err
	}
	defer grow.kill()
	all := []*watched{&trace, &grow}
	began := time.Now()
	for time.Since(began) < b.soakFor-soakEvery {
		if err = pause(ctx, soakEvery); err != nil {
			return err
		}
		for _, w := range all {
			if err = cmp.Or(w.alive(), w.look()); err != nil {
				return err
			}
		}
	}
	return b.soaked(ctx, all, shell, time.Since(began))
}

// soaked ends the mixture and judges what was seen.
func (b *bench) soaked(ctx context.Context, all []*watched, shell int, took time.Duration) error {
	var s *traceSummary
	err := await(ctx, "trace and grow stop by themselves", 2*time.Minute, time.Second, func() (ok bool, err error) {
		s, err = readSummary(all[0].out)
		return s != nil, err
	})
	if err != nil {
		return err
	}
	if err = all[1].wait(ctx, 2*time.Minute); err != nil {
		return err
	}
	if err = unix.Kill(shell, unix.SIGKILL); err != nil {
		return fmt.Errorf("end the mixture: %w", err)
	}
	t := table{head: []string{"", "resident after a sixth, MiB", "at the end, MiB", "CPU, % of one"}}
	var bad []error
	for _, w := range all {
		early, late, ok := course(w.resident)
		if !ok {
			return errors.New("too short to see anything: -soak 2m at least")
		}
		t.add("`"+w.name+"`", fmt.Sprintf("%.1f", early/1024), fmt.Sprintf("%.1f", late/1024), fmt.Sprintf("%.1f", 100*w.cpu.Seconds()/took.Seconds()))
		if late > 1.1*early+8<<10 {
			bad = append(bad, fmt.Errorf("%s grew from %.0f to %.0f KiB", w.name, early, late))
		}
	}
	if s.Lost+s.Missed+s.Drift+s.Violations+s.Untracked != 0 {
		bad = append(bad, fmt.Errorf("the picture is wrong: %+v", *s))
	}
	fmt.Fprintf(b.out, `A mixture for %v: four threads that change mappings in every way, 50 short processes a second, node, PostgreSQL under
pgbench. Calls %s, processes %s, audits %s; lost %d, missed %d, drift %d, violations %d.

`, took.Round(time.Second), grouped(s.Calls), grouped(s.Processes), grouped(s.Audits), s.Lost, s.Missed, s.Drift, s.Violations)
	return errors.Join(t.write(b.out), errors.Join(bad...))
}

// look notes what a process has resident and has used of the CPUs.
func (w *watched) look() error {
	p, err := procmaps.Default().Process(w.pid())
	if err != nil {
		return err
	}
	defer p.Close()
	status, err := p.Status()
	if err != nil {
		return err
	}
	w.resident = append(w.resident, float64(status.VmRSSKB))
	w.anonymous = append(w.anonymous, float64(status.RssAnonKB))
	w.cpu, err = cpuOf(w.pid())
	return err
}

// database prepares a folder for everybody and finds PostgreSQL, "" if it is not
// installed.
func (b *bench) database() (dir, programs string, err error) {
	dir, err = os.MkdirTemp("", "maptrace-soak-")
	if err != nil {
		return "", "", err
	}
	if err = os.Chmod(dir, 0o777); err != nil { //nolint:gosec // postgres is another user
		return "", "", err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		fmt.Fprintln(b.log, "without PostgreSQL: it is not installed")
		return dir, "", err
	}
	return dir, found[len(found)-1], nil
}

// endMixture ends what outlives its shell. The folder is on every command line but
// those of churn and node, which end with their loops and with us.
func endMixture(dir string) error {
	err := exec.Command("pkill", "-KILL", "-f", dir).Run()
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() == 1 {
		return nil // none was left
	}
	return err
}

// childNamed is a process below another with that name, 0 if there is none.
func childNamed(pid int, comm string) int {
	fs := procmaps.Default()
	below, err := tracer.Descendants(fs, []int{pid})
	if err != nil {
		return 0 // not yet
	}
	for _, child := range below {
		if p, err := fs.Process(child); err == nil {
			st, err := p.Stat()
			_ = p.Close() // only looked at
			if err == nil && st.Comm == comm && child != pid {
				return child
			}
		}
	}
	return 0
}

// traceSummary is the last object that trace --json writes.
type traceSummary struct {
	Calls, Processes, Audits                   uint64
	Lost, Missed, Drift, Violations, Untracked uint64
}

// readSummary finds it, nil as long as it was not written.
func readSummary(path string) (*traceSummary, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20) // a table is one line
	for lines.Scan() {
		var o struct {
			Event string
			traceSummary
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return nil, nil //nolint:nilnil // half a line: it is being written
		}
		if o.Event == "summary" {
			return &o.traceSummary, nil
		}
	}
	return nil, lines.Err()
}
