package tracer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// real traces a command from its first instruction to its end.
func real(t *testing.T, argv ...string) {
	t.Helper()
	r := newTraced(t, LiveOptions{}, 20*time.Millisecond)
	var out bytes.Buffer
	c := r.command(argv, nil, &out)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	rep := r.run(ctx)
	if code, err := c.Wait(); err != nil || code != 0 {
		t.Errorf("%v: exit status %d, %v\n%s", argv, code, err, out.String())
	}
	s := rep.Stats
	if s.AuditsUnfinished == 0 && rep.Picture.Why == NothingVerified {
		rep.Picture.Why = "" // it was over before it could be audited
	}
	r.mustBeExact(rep)
	t.Logf("%d calls, %d sections, %d processes, %d others, %d audits", s.Calls, s.Sections, s.Processes, s.Others, s.Audits)
}

func TestRealCommands(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "h.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"hi\") < 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	java := filepath.Join(dir, "H.java")
	if err := os.WriteFile(java, []byte(javaProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"find", "/etc", "-name", "*.conf", "-quit"},
		{"sh", "-c", "for i in 1 2 3 4 5 6 7 8; do ls /usr/bin | wc -l; done"},
		{"python3", "-c", "import json, threading\nts = [threading.Thread(target=lambda: [bytearray(1 << 20) for i in range(50)]) for _ in range(8)]\nfor t in ts: t.start()\nfor t in ts: t.join()"},
		{"node", "-e", "let a = []; for (let i = 0; i < 300; i++) { a.push(Buffer.alloc(200000)); if (i % 100 == 0) a = [] } setTimeout(() => {}, 100)"},
		{"java", java},
		{"gcc", "-O2", source, "-o", filepath.Join(dir, "h")},
		{"apt-cache", "policy", "bash"},
		{"go", "version"},
		{"sqlite3", ":memory:", "with recursive n(i) as (select 1 union all select i+1 from n where i < 100000) select count(*), sum(i) from n"},
	} {
		t.Run(argv[0], func(t *testing.T) {
			tool.Need(t, argv[0])
			real(t, argv...)
		})
	}
}

const javaProgram = `
import java.util.*;
public class H {
	public static void main(String[] args) throws Exception {
		List<byte[]> l = new ArrayList<>();
		for (int i = 0; i < 100; i++) {
			l.add(new byte[1 << 20]);
			if (i % 40 == 0) l.clear();
			java.nio.ByteBuffer.allocateDirect(1 << 18);
		}
		Thread[] t = new Thread[30];
		for (int i = 0; i < t.length; i++) { t[i] = new Thread(() -> {}); t[i].start(); }
		for (Thread x : t) x.join();
	}
}
`

// waitPort waits until somebody listens, and fails the test if nobody does.
func waitPort(t *testing.T, network, addr string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		c, err := net.Dial(network, addr)
		if err == nil {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("nobody listens at %s", addr)
}

// server attaches to a running server and its children, has work done, and
// checks the claim and that every process' tree is what the kernel has, once
// nothing moves any more.
func server(t *testing.T, pid int, work func() error) {
	t.Helper()
	fs := procmaps.Default()
	pids, err := Descendants(fs, []int{pid})
	if err != nil {
		t.Fatal(err)
	}
	r := newTraced(t, LiveOptions{}, 20*time.Millisecond)
	r.add(false, pids...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- work()
		r.ends(cancel)
	}()
	rep := r.run(ctx)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.mustBeExact(rep)
	t.Logf("%d processes, %d calls, %d sections, %d audits", rep.Stats.Processes, rep.Stats.Calls, rep.Stats.Sections, rep.Stats.Audits)
}

func TestRealRedis(t *testing.T) {
	program := tool.Need(t, "redis-server")
	dir := t.TempDir()
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", sock, "--dir", dir, "--save", "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // its end is not what is tested
		_ = cmd.Wait()
	}()
	waitPort(t, "unix", sock)
	server(t, cmd.Process.Pid, func() error {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		defer c.Close()
		big := strings.Repeat("x", 300<<10)
		reply := make([]byte, 64)
		for i := range 200 {
			value := big[:1000*(i+1)]
			if _, err = fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$3\r\n%03d\r\n$%d\r\n%s\r\n", i, len(value), value); err != nil {
				return err
			}
			if _, err = io.ReadAtLeast(c, reply[:5], 5); err != nil {
				return err
			}
		}
		// The snapshot is written by a forked child.
		_, err = fmt.Fprint(c, "SAVE\r\nFLUSHALL\r\n")
		return err
	})
}

func TestRealPostgres(t *testing.T) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 || os.Getuid() != 0 {
		t.Skip("needs postgres, which is not installed, or whose user we cannot become")
	}
	tool.Need(t, "runuser")
	bin := bins[len(bins)-1]
	//nolint:usetesting // t.TempDir is inside a directory that postgres may not enter
	dir, err := os.MkdirTemp("", "maptrace-pg-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	as := func(argv ...string) *exec.Cmd {
		return exec.Command("runuser", append([]string{"-u", "postgres", "--"}, argv...)...)
	}
	if out, err := exec.Command("chown", "postgres", dir).CombinedOutput(); err != nil {
		t.Skipf("there is no user postgres: %s", out)
	}
	data := filepath.Join(dir, "data")
	if out, err := as(bin+"/initdb", "-D", data, "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	cmd := as(bin+"/postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if out, err := as(bin+"/pg_ctl", "-D", data, "-m", "immediate", "stop").CombinedOutput(); err != nil {
			t.Errorf("pg_ctl stop: %v\n%s", err, out)
		}
		_ = cmd.Wait() // its end is not what is tested
	}()
	waitPort(t, "unix", filepath.Join(dir, ".s.PGSQL.5432"))
	server(t, cmd.Process.Pid, func() error {
		for range 3 {
			out, err := as(bin+"/psql", "-h", dir, "-c",
				"create table if not exists t(i int, s text); insert into t select i, repeat('x', 500) from generate_series(1, 20000) i; select count(*) from t a join t b using (i)").CombinedOutput()
			if err != nil {
				return fmt.Errorf("psql: %w: %s", err, out)
			}
		}
		return nil
	})
}

func TestAGoProgramIsExact(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gochurn")
	build := exec.Command("go", "build", "-o", program, workloads+"/gochurn")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	real(t, program, "-t", "4", "-n", "5000", "-s", "3")
}

func TestTargetsAreChecked(t *testing.T) {
	self, err := FindComm(procmaps.Default(), "no such name")
	if err == nil || len(self) != 0 {
		t.Errorf("found %v, %v", self, err)
	}
	// A kernel thread has no memory.
	if err := CheckTarget(procmaps.Default(), 2); err == nil {
		t.Error("a kernel thread was accepted")
	} else {
		bpftest.SkipIfRefused(t, err)
	}
	if err := CheckTarget(procmaps.Default(), os.Getpid()); err != nil {
		t.Errorf("this process: %v", err)
	}
}
