package main

import (
	"encoding/csv"
	"strconv"
	"strings"
	"testing"
)

// recordsOf reads comma-separated values: a map of each line by the heading.
func recordsOf(t *testing.T, text string) (out []map[string]string) {
	t.Helper()
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll() // which wants as many fields in each line
	if err != nil || len(all) == 0 {
		t.Fatalf("%v in %d lines of:\n%s", err, len(all), text)
	}
	for _, line := range all[1:] {
		r := make(map[string]string)
		for i, key := range all[0] {
			r[key] = line[i]
		}
		out = append(out, r)
	}
	return out
}

func TestTablesOfCommaSeparatedValues(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "resident")
	count := func(records []map[string]string, key, want string) (n int) {
		for _, r := range records {
			if r[key] == want {
				n++
			}
		}
		return n
	}
	changes := recordsOf(t, succeed(t, maptrace(t, "trace", "--csv", "--", "true")).out)
	if len(changes) < 10 || count(changes, "event", "mmap") < 5 || count(changes, "event", "exit") != 1 || count(changes, "kind", "file") < 3 {
		t.Errorf("trace: %v", changes)
	}
	rows := recordsOf(t, succeed(t, maptrace(t, "trace", "--csv", "--summary-only", "--for", "100ms", h.pid())).out)
	if len(rows) < 5 || count(rows, "pid", h.pid()) != len(rows) || count(rows, "picture", "exact") != len(rows) || count(rows, "mapping", "[heap]") > 1 {
		t.Errorf("tables of trace: %v", rows)
	}
	found := recordsOf(t, succeed(t, maptrace(t, "grow", "--csv", "--for", "600ms", "--interval", "100ms", h.pid())).out)
	if len(found) == 0 || count(found, "pid", h.pid()) != len(found) || count(found, "verdict", "") > 0 {
		t.Errorf("grow: %v", found)
	}
	for _, f := range found {
		if _, err := strconv.ParseFloat(f["slope"], 64); err != nil {
			t.Errorf("grow: a slope of %q", f["slope"])
		}
	}
	times := recordsOf(t, succeed(t, maptrace(t, "lat", "--csv", "--", "true")).out)
	if count(times, "time", "duration") < 3 || count(times, "time", "wait") < count(times, "time", "duration") || count(times, "time", "hold") != count(times, "time", "wait") {
		t.Errorf("lat: %v", times)
	}
	checks := recordsOf(t, succeed(t, maptrace(t, "doctor", "--csv")).out)
	if len(checks) < 10 || count(checks, "verdict", "FAIL") > 0 {
		t.Errorf("doctor: %v", checks)
	}
	h.unharmed()
}
