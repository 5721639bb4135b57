//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsAreComparedWithTheKernels(t *testing.T) {
	t.Parallel()
	anon := row{0x1000, 0x3000, "rw-p", "00:00", 0, 0, ""}
	file := row{0x5000, 0x8000, "r--s", "fe:00", 7, 0x1000, "/tmp/a"}
	with := func(r row, change func(*row)) row { change(&r); return r }
	for _, tt := range []struct {
		name       string
		want, got  []row
		difference []string
	}{
		{"all the same", []row{anon, file}, []row{anon, file}, nil},
		{"nothing", nil, nil, nil},
		{"one is missing", []row{anon, file}, []row{anon}, []string{"missing"}},
		{"one is not there", []row{file}, []row{anon, file}, []string{"not there"}},
		{"the end is missing", []row{anon}, []row{with(anon, func(r *row) { r.end = 0x2000 })}, []string{"missing"}},
		{"another mode within", []row{file}, []row{
			with(file, func(r *row) { r.end = 0x6000 }), with(file, func(r *row) { r.start, r.end, r.offset, r.mode = 0x6000, 0x7000, 0x2000, "rw-s" }),
			with(file, func(r *row) { r.start, r.offset = 0x7000, 0x3000 }),
		}, []string{"mode"}},
		{"another inode", []row{file}, []row{with(file, func(r *row) { r.inode = 8 })}, []string{"file"}},
		{"another device", []row{file}, []row{with(file, func(r *row) { r.device = "fe:01" })}, []string{"file"}},
		{"another offset", []row{file}, []row{with(file, func(r *row) { r.offset = 0 })}, []string{"offset"}},
		{"another name", []row{file}, []row{with(file, func(r *row) { r.name = "/tmp/b" })}, []string{"name"}},
		{"no name", []row{file}, []row{with(file, func(r *row) { r.name = "" })}, []string{"name"}},
		{"the last element of the name", []row{file}, []row{with(file, func(r *row) { r.name = "a" })}, nil},
		{"the same of a deleted file", []row{with(file, func(r *row) { r.name = "/tmp/a (deleted)" })}, []row{with(file, func(r *row) { r.name = "a" })}, nil},
		{"a socket is called by its protocol", []row{with(file, func(r *row) { r.name = "socket:[7]" })}, []row{with(file, func(r *row) { r.name = "TCP" })}, nil},
		{"another heap", []row{with(anon, func(r *row) { r.name = "[heap]" })}, []row{anon}, []string{"name"}},
		{
			"shared memory of an unknown file",
			[]row{with(file, func(r *row) { r.name = "/dev/zero (deleted)" })},
			[]row{with(file, func(r *row) { r.name, r.device, r.inode = "/dev/zero (deleted)", "00:00", 0 })},
			nil,
		},
		{"a file that is unknown", []row{file}, []row{with(file, func(r *row) { r.device, r.inode = "00:00", 0 })}, []string{"file"}},
	} {
		var kinds []string
		for _, f := range differences(tt.want, tt.got) {
			kinds = append(kinds, f.kind)
		}
		if d := cmp.Diff(tt.difference, kinds); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// copied is what a process has written, and right a table of it as maptrace prints it.
const (
	copied = `20000000-20002000 rw-p 00000000 00:00 0 
20002000-20004000 rw-p 00000000 00:00 0 
20008000-20009000 r--s 00001000 fe:00 7                                  /tmp/a
`
	right = `{"event":"table","pid":7,"comm":"calls","picture":"PICTURE","regions":[` +
		`{"address":"0x20000000","size":16384,"mode":"rw-p","kind":"anon"},` +
		`{"address":"0x20008000","size":4096,"mode":"r--s","kind":"file","mapping":"a","device":"fe:00","inode":7,"offset":4096}]}` + "\n"
	end = `{"event":"summary","picture":"exact","violations":0}` + "\n"
)

func TestARunIsJudged(t *testing.T) {
	t.Parallel()
	exact := strings.ReplaceAll(right, "PICTURE", "exact")
	for _, tt := range []struct {
		name, output string
		kinds        []string
		exact        int
	}{
		{"a table that is right", exact + end, nil, 1},
		{"one of the same process before it", strings.ReplaceAll(exact, "rw-p", "r--p") + exact + end, nil, 1},
		{"one that is wrong", strings.ReplaceAll(exact, "16384", "20480") + end, []string{"not there"}, 1},
		{"one that was read again and is wrong", strings.ReplaceAll(right, "PICTURE", "resynced at 10:00:00") + strings.ReplaceAll(exact, `"rw-p"`, `"rwxp"`) + end, []string{"mode"}, 1},
		{"one that does not claim to be right", strings.ReplaceAll(strings.ReplaceAll(right, "PICTURE", "approximate: a change was missed"), "16384", "20480") + end, nil, 0},
		{"none", end, []string{"table"}, 0},
		{"no end", exact, []string{"summary"}, 0},
		{"what cannot have been", exact + strings.ReplaceAll(end, ":0}", ":2}"), []string{"violations"}, 1},
	} {
		dir := t.TempDir()
		output := filepath.Join(dir, "output")
		for name, text := range map[string]string{output: tt.output, filepath.Join(dir, "maps.7"): copied, filepath.Join(dir, "maps.8"): "2000"} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v, err := judge(dir, output)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var kinds []string
		for _, f := range v.wrong {
			kinds = append(kinds, f.kind)
		}
		if d := cmp.Diff(tt.kinds, kinds); d != "" || v.exact != tt.exact {
			t.Errorf("%s: %d said to be right, want %d; (-want +got):\n%s", tt.name, v.exact, tt.exact, d)
		}
	}
}
