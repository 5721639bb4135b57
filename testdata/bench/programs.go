//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// program is something real to run.
type program struct {
	name   string
	needs  string // the command without which it is left out
	script string // of sh; %s is a folder for its files
}

var realPrograms = []program{
	{"Python lists", "python3", `exec %[2]s -c '
import random
random.seed(1)
for i in range(24):
    rows = [[random.random() for _ in range(25)] for _ in range(2000)]
    rows.sort()
    text = ",".join(str(r[0]) for r in rows) * 20
'`},
	{"10 compilations (gcc)", "gcc", `cd %[1]s && for i in 1 2 3 4 5 6 7 8 9 10; do gcc -O2 -c -o out.o some.c || exit; done`},
	{"SQLite in memory", "sqlite3", `exec sqlite3 :memory: "
create table t(id integer primary key, k text, v blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 120000)
insert into t select i, 'key ' || (i * 7919 %% 120000), zeroblob(i %% 400) from n;
create index by_k on t(k);
select count(*), sum(length(v)) from t where k > 'key 5';"`},
}

// someC is a C file that takes a compiler a few hundredths of a second.
func someC() string {
	var s strings.Builder
	s.WriteString("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
	for i := range 40 {
		fmt.Fprintf(&s, "int f%d(const char *s, int n)\n{\n\tint sum = %d;\n"+
			"\tfor (int i = 0; i < n; i++) {\n\t\tsum += s[i] * %d;\n\t\tif (sum > %d)\n\t\t\tsum /= n + 1;\n\t}\n"+
			"\tprintf(\"%%d\", sum);\n\treturn sum;\n}\n", i, i, i+3, 1000*i)
	}
	return s.String()
}

// write makes an executable script of a program, which some tracers need:
// they cannot pass an argument with a space in it.
func (p *program) write(b *bench) (string, error) {
	dir := b.file("program")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "some.c"), []byte(someC()), 0o644); err != nil {
		return "", err
	}
	// python3 in PATH may be a script that looks for the right one.
	python := "python3"
	if out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output(); err == nil {
		python = strings.TrimSpace(string(out))
	}
	path := filepath.Join(dir, "run")
	return path, os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\n"+p.script+"\n", dir, python), 0o755)
}

// programs is the part about real programs.
func (b *bench) programs(ctx context.Context) error {
	tools := append([]peer{maptraceJSON}, b.peers...)
	t := table{head: []string{"traced by"}}
	cells := make([][]string, len(tools))
	for i, p := range tools {
		cells[i] = []string{p.name}
	}
	extra := make([][]float64, len(tools))
	for _, p := range realPrograms {
		if _, err := exec.LookPath(p.needs); err != nil {
			fmt.Fprintf(b.log, "%s left out: %s is not installed\n", p.name, p.needs)
			continue
		}
		if b.short && len(t.head) > 1 {
			break // one is all that a minute has room for
		}
		if err := b.program(ctx, &p, tools, &t, cells, extra); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	t.head = append(t.head, "the tool's own start and end, s")
	for i := range tools {
		own := "-"
		if len(extra[i]) > 0 {
			own = fmt.Sprintf("%.2f", spreadOf(extra[i]).median)
		}
		t.add(append(cells[i], own)...)
	}
	fmt.Fprintf(b.out, `Slowdown of the program and its children, each traced run between two that are not; median [quartiles] of %d. What the
tool takes to start and to end is not in it, for none of them, but in the last column.

`, b.rounds)
	return t.write(b.out)
}

// program measures one program under all tools and adds a column for it.
func (b *bench) program(ctx context.Context, p *program, tools []peer, t *table, cells [][]string, extra [][]float64) error {
	defer b.note("%s: %d rounds", p.name, b.rounds)()
	script, err := p.write(b)
	if err != nil {
		return err
	}
	calls, err := b.callsOf(ctx, script)
	if err != nil {
		return err
	}
	with, beside := make([][]float64, len(tools)), make([][]float64, len(tools))
	failed := make([]error, len(tools))
	base, _, err := b.timedRun(ctx, nil, script)
	if err != nil {
		return err
	}
	bases := []float64{base.Seconds()}
	for range b.rounds {
		for i, tool := range tools {
			if failed[i] != nil {
				continue
			}
			inside, whole, err := b.timedRun(ctx, &tool, script)
			if err != nil {
				if i == 0 || ctx.Err() != nil {
					return fmt.Errorf("%s: %w", tool.name, err)
				}
				failed[i] = err
				continue
			}
			after, _, err := b.timedRun(ctx, nil, script)
			if err != nil {
				return err
			}
			c := compare([]float64{base.Seconds(), after.Seconds()}, []float64{inside.Seconds()})
			with[i] = append(with[i], c.ratio.median)
			beside[i] = append(beside[i], after.Seconds())
			extra[i] = append(extra[i], (whole - inside).Seconds())
			base = after
			bases = append(bases, after.Seconds())
		}
	}
	t.head = append(t.head, fmt.Sprintf("%s, %.2f s, %s calls", p.name, spreadOf(bases).median, grouped(calls)))
	for i := range tools {
		cell := spreadOf(with[i]).ratio()
		if failed[i] != nil {
			cell = "left out: " + firstLine(failed[i])
		}
		cells[i] = append(cells[i], cell)
	}
	return nil
}

// timedRun runs a script, under a tool unless that is nil. It returns the time
// of the script and that of everything.
func (b *bench) timedRun(ctx context.Context, tool *peer, script string) (inside, whole time.Duration, err error) {
	result := b.file("took")
	argv := []string{b.timed, result, script}
	if tool != nil {
		argv = tool.start(b, argv)
	}
	began := time.Now()
	c, err := start(argv...)
	if err != nil {
		return 0, 0, err
	}
	if err = c.wait(ctx, time.Minute); err != nil {
		return 0, 0, err
	}
	whole = time.Since(began)
	inside, _, err = timedResult(result)
	return inside, whole, err
}

// timedResult reads what timed.c wrote: how long its command took, and how many
// KiB that had resident at most.
func timedResult(path string) (took time.Duration, peakKB int64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(text), (*int64)(&took), &peakKB); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return took, peakKB, nil
}

// callsOf tells how many mapping calls a script and its children make. It also
// is the run that brings everything into memory.
func (b *bench) callsOf(ctx context.Context, script string) (uint64, error) {
	path := b.file("summary")
	c, err := start(b.maptrace, "trace", "--summary-only", "--json", "--to", path, "--", script)
	if err != nil {
		return 0, err
	}
	if err = c.wait(ctx, time.Minute); err != nil {
		return 0, err
	}
	s, err := readSummary(path)
	switch {
	case err != nil:
		return 0, err
	case s == nil:
		return 0, errors.New("maptrace printed no summary")
	case s.Lost > 0:
		return 0, fmt.Errorf("maptrace lost %d records", s.Lost)
	}
	return s.Calls, nil
}
