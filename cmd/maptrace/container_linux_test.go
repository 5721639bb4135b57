package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// unshared returns how to run something in new namespaces, or skips.
func unshared(t *testing.T, args ...string) []string {
	t.Helper()
	argv := append([]string{"unshare"}, args...)
	if text, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("%v: %v\n%s", argv, err, text)
	}
	return argv
}

// jsonLines are the lines of -o json, after what else is printed before them.
func jsonLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, o)
	}
	return all
}

func TestTracingInsideOfAPIDNamespace(t *testing.T) {
	t.Parallel()
	needBPF(t)
	inside := unshared(t, "--pid", "--fork", "--mount-proc")
	twice := append(inside, inside...)
	for _, argv := range [][]string{inside, twice} {
		t.Run(fmt.Sprintf("%d deep", len(argv)/len(inside)), func(t *testing.T) {
			t.Parallel()
			// The command and its children say what they are called; one of them is
			// called yet otherwise by itself.
			script := `echo command $$; sh -c 'echo child $$; true'; unshare --pid --fork sh -c 'sleep 0.5; exec true'`
			cmd := append(argv, binary(t), "trace", "--verify", "--stack", "-o", "json", "--", "sh", "-c", script)
			r := succeed(t, launch(t, exec.Command(cmd[0], cmd[1:]...)).result())
			names := map[string]float64{}
			for _, line := range strings.Split(r.out, "\n")[:2] {
				who, number, _ := strings.Cut(line, " ")
				n, err := strconv.Atoi(number)
				if err != nil {
					t.Fatal(err)
				}
				names[who] = float64(n)
			}
			calls, execs := map[float64]int{}, 0
			var last map[string]any
			for _, o := range jsonLines(t, r.out) {
				pid, _ := o["pid"].(float64)
				switch o["event"] {
				case "mmap":
					calls[pid]++
					if pid == 0 || o["tid"] != o["pid"] {
						t.Errorf("a call of %v/%v", o["pid"], o["tid"])
					}
				case "exec":
					execs++
				}
				last = o
			}
			if calls[names["command"]] < 2 || calls[names["child"]] < 2 {
				t.Errorf("mmap calls by process: %v, want some of %v", calls, names)
			}
			if last["event"] != "summary" || last["forks"] != 4.0 || last["exits"] != 5.0 || execs != 5 {
				t.Errorf("%d execs, and at the end %v", execs, last)
			}
			if last["drift"] != 0.0 || last["lost"] != 0.0 || last["picture"] != "exact" {
				t.Errorf("the picture: %v", last)
			}
		})
	}
}

func TestAProcessOfAnotherContainerWithTheSameNumberIsNotTraced(t *testing.T) {
	t.Parallel()
	needBPF(t)
	inside := unshared(t, "--pid", "--fork", "--mount-proc", "--kill-child")
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.WriteFile(loop, []byte("sleep 0.01; exec sh "+loop), 0o644); err != nil {
		t.Fatal(err)
	}
	// Process 2 of this one gets a new image a hundred times a second.
	argv := append(inside, "sh", "-c", "sh "+loop+" & wait")
	launch(t, exec.Command(argv[0], argv[1:]...))
	// Process 2 of this one does so once.
	ready := filepath.Join(t.TempDir(), "ready")
	argv = append(inside, "sh", "-c", `sh -c 'until [ -e "$0" ]; do sleep 0.1; done; exec sleep 1' "$0" & exec "$@"`,
		ready, binary(t), "trace", "-p", "2", "--ready-file", ready, "--verify", "-o", "json")
	r := succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result())
	all := jsonLines(t, r.out)
	execs := 0
	for _, o := range all {
		if o["event"] == "exec" && o["pid"] == 2.0 {
			execs++
		}
	}
	if last := all[len(all)-1]; execs != 1 || last["picture"] != "exact" || last["audits"] == 0.0 {
		t.Errorf("%d new images of process 2, want 1; at the end %v", execs, last)
	}
}

func TestGrowthInsideOfAPIDNamespace(t *testing.T) {
	t.Parallel()
	needBPF(t)
	argv := append(unshared(t, "--pid", "--fork", "--mount-proc"), binary(t), "demo", "--duration", "1s")
	r := succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result())
	if !strings.Contains(r.out, "\ngrew most: [ anon ]") {
		t.Errorf("the leak is not named:\n%s", r.out)
	}
}

func TestTheDoctorSaysWhoseProcessesAreSeen(t *testing.T) {
	t.Parallel()
	needBPF(t)
	argv := append(unshared(t, "--pid", "--fork", "--mount-proc"), binary(t), "doctor")
	r := succeed(t, launch(t, exec.Command(argv[0], argv[1:]...)).result())
	if !strings.Contains(r.out, "\npid namespace a container's: only its own processes") {
		t.Errorf("the doctor says:\n%s", r.out)
	}
}
