package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// machine lays out the files of a fixture: after its comment each file begins with
// a line "-- path --".
func machine(t *testing.T, fixture string) Finder {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", fixture+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	header := regexp.MustCompile(`(?m)^-- (.*) --\n`)
	at := header.FindAllSubmatchIndex(b, -1)
	for i, m := range at {
		end := len(b)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		write(t, filepath.Join(root, string(b[m[2]:m[3]])), string(b[m[1]:end]))
	}
	return of(t, root)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func of(t *testing.T, root string) Finder {
	t.Helper()
	proc, err := procmaps.NewFS(filepath.Join(root, "proc"))
	if err != nil {
		t.Fatal(err)
	}
	return Finder{Proc: proc, Root: root}
}

func TestContainersOfEachRuntime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fixture string
		want    []string // runtime, names, processes; in the order of the names
	}{
		{"docker-systemd-v2", []string{"docker [] [303]", "docker [web-db] [201]", "docker [web] [101 102 303]"}},
		{"docker-cgroupfs-v1", []string{"docker [db] [201]", "docker [web] [101 102]"}},
		{"containerd-systemd-v2", []string{
			"containerd [] [50]", "containerd [] [60 61]",
			"containerd [nginx shop-7d4b9c-x2x/nginx prod/shop-7d4b9c-x2x/nginx] [51]",
			"containerd [registry] [70]",
			"containerd [sidecar shop-7d4b9c-x2x/sidecar prod/shop-7d4b9c-x2x/sidecar] [52]",
		}},
		{"containerd-cgroupfs-v1", []string{
			"containerd [nginx shop-7d4b9c-x2x/nginx prod/shop-7d4b9c-x2x/nginx] [51]",
			"containerd [sidecar shop-7d4b9c-x2x/sidecar prod/shop-7d4b9c-x2x/sidecar] [52]",
		}},
		{"crio-systemd-v2", []string{
			"cri-o [api shop/api prod/shop/api k8s_api_shop_prod_0c5e9b1f-6c5a-4a0e-8d7b-2f1d3c4b5a69_0] [81]",
			"cri-o [k8s_POD_shop_prod_0c5e9b1f-6c5a-4a0e-8d7b-2f1d3c4b5a69_0] [82]",
		}},
		{"crio-cgroupfs-v1", []string{"cri-o [api shop/api prod/shop/api k8s_api_shop_prod_0c5e9b1f_0] [81]"}},
		{"podman-systemd-v2", []string{"podman [batch] [91]", "podman [cache] [93]", "podman [web] [92]"}},
		{"podman-cgroupfs-v1", []string{"podman [batch] [91]"}},
		{"systemd-v2", nil},
	}
	for _, tt := range tests {
		t.Run(tt.fixture, func(t *testing.T) {
			t.Parallel()
			all, doubts, err := machine(t, tt.fixture).containers()
			if err != nil || len(doubts) > 0 {
				t.Fatalf("%v, %v", doubts, err)
			}
			var got []string
			for _, c := range all {
				got = append(got, fmt.Sprint(c.Runtime, " ", c.Names, " ", c.PIDs()))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAContainerIsFoundByIDNameOrTheBeginOfEither(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fixture, word string
		want          []int
	}{
		{"docker-systemd-v2", "web", []int{101, 102, 303}}, // the whole name goes before web-db
		{"docker-systemd-v2", "web-", []int{201}},
		{"docker-cgroupfs-v1", "d", []int{201}},
		{"podman-systemd-v2", "web", []int{92}},
		{"containerd-systemd-v2", "my-test", []int{60, 61}},
		{"containerd-systemd-v2", "prod/shop-7d4b9c-x2x/ng", []int{51}},
		{"containerd-systemd-v2", "sidecar", []int{52}},
	}
	for _, tt := range tests {
		f := machine(t, tt.fixture)
		c, err := f.Container(tt.word)
		if err != nil || !slices.Equal(c.PIDs(), tt.want) {
			t.Errorf("%s: %q: %v, want processes %v (%v)", tt.fixture, tt.word, c, tt.want, err)
		}
	}
	f := machine(t, "docker-systemd-v2")
	all, _, err := f.containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		for _, n := range []int{12, 64} {
			if got, err := f.Container(c.ID[:n]); err != nil || got.ID != c.ID {
				t.Errorf("%s: %v, %v", c.ID[:n], got, err)
			}
		}
	}
}

func TestContainersThatAreNotFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fixture, word string
		is            error
		want          []string
	}{
		{"docker-systemd-v2", "we", errAmbiguous, []string{`("web")`, `("web-db")`}},
		{"docker-systemd-v2", "nothing", procmaps.ErrGone, []string{`begins with "nothing"`, `("web")`, `("web-db")`}},
		{"systemd-v2", "nginx", procmaps.ErrGone, []string{"no process in /proc is in one"}},
		{"containerd-systemd-v2", "ended", procmaps.ErrGone, []string{"my-test"}},
		{"docker-systemd-v2", "", nil, []string{"a container has a name"}},
	}
	for _, tt := range tests {
		c, err := machine(t, tt.fixture).Container(tt.word)
		if err == nil {
			t.Errorf("%s: %q is %v", tt.fixture, tt.word, c)
			continue
		}
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %q: %v, want it to be %v", tt.fixture, tt.word, err, tt.is)
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q: %v, want %q in it", tt.fixture, tt.word, err, want)
			}
		}
	}
}

func TestCgroups(t *testing.T) {
	t.Parallel()
	id := "" // of the container of docker-cgroupfs-v1 that is called web
	if c, err := machine(t, "docker-cgroupfs-v1").Container("web"); err == nil {
		id = c.ID
	}
	tests := []struct {
		fixture, word string
		want          []int
		err           string
	}{
		{"systemd-v2", "nginx.service", []int{20, 21}, ""},
		{"systemd-v2", "nginx", []int{20, 21}, ""},
		{"systemd-v2", "system-getty.slice", []int{22}, ""},
		{"systemd-v2", "system.slice", []int{20, 21, 22, 23}, ""},
		{"systemd-v2", "/system.slice/nginx.service", []int{20, 21}, ""},
		{"systemd-v2", "/system.slice/nginx.service/", []int{20, 21}, ""},
		{"systemd-v2", "/sys/fs/cgroup/system.slice/nginx.service", []int{20, 21}, ""},
		{"systemd-v2", "/sys/fs/cgroup/user.slice/../system.slice", []int{20, 21, 22, 23}, ""},
		{"systemd-v2", "/sys/fs/cgroup", []int{1, 2, 20, 21, 22, 23, 30, 31, 32}, ""},
		{"systemd-v2", "/", []int{1, 2, 20, 21, 22, 23, 30, 31, 32}, ""},
		{"systemd-v2", "app.slice", nil, `"/user.slice/user-1000.slice/user@1000.service/app.slice", "/user.slice/user-1001`},
		{"systemd-v2", "init.scope", nil, "it may be any of several"},
		{"systemd-v2", "apache2", nil, "none of the 9 processes"},
		{"systemd-v2", "/empty.slice", nil, "no process is in it, nor below it"},
		{"systemd-v2", "/sys/fs/cgroup/empty.slice", nil, "no process is in it, nor below it"},
		{"systemd-v2", "/none", nil, "none of the 9 processes"},
		{"systemd-v2", "system.slice/nginx.service", nil, "want a path from /"},
		{"systemd-v2", "", nil, "want a path from /"},
		{"docker-cgroupfs-v1", "/docker", []int{101, 102, 201}, ""},
		{"docker-cgroupfs-v1", "/docker/" + id + "/sub", []int{102}, ""},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/memory/docker/" + id, []int{101, 102}, ""},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/memory/docker/" + id + "/sub", []int{102}, ""},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/cpuacct/docker/" + id, []int{101, 102}, ""},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/cpu,cpuacct/docker/" + id + "/sub", nil, "none of"},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/systemd/init.scope", []int{1}, ""},
		{"docker-cgroupfs-v1", "/sys/fs/cgroup/unified/init.scope", []int{1}, ""},
	}
	for _, tt := range tests {
		g, err := machine(t, tt.fixture).Cgroup(tt.word)
		switch {
		case tt.err == "" && (err != nil || !slices.Equal(g.PIDs(), tt.want)):
			t.Errorf("%s: %q: %v, want %v (%v)", tt.fixture, tt.word, g, tt.want, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: %q: %v, want %q in it", tt.fixture, tt.word, err, tt.err)
		}
	}
}

func TestWhoIsInAGroupNow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, fixture, word string
		want                []int
	}{
		{"the directories of v2 are read", "systemd-v2", "nginx.service", []int{20, 21, 24}},
		{"those of v1, and below", "docker-cgroupfs-v1", "/docker", []int{101, 102, 103}},
		{"without directories, every process", "crio-systemd-v2", "kubepods.slice", []int{80, 81, 82}},
		{"a group whose directory is gone", "systemd-v2", "getty@tty1.service", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, err := machine(t, tt.fixture).Cgroup(tt.word)
			if err != nil {
				t.Fatal(err)
			}
			got, err := g.Now()
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%v (%v), want %v", got, err, tt.want)
			}
		})
	}
}

// The kernel shows a leader that has ended at the root of each v1 hierarchy, and in
// v2 where it was when it ended.
func TestAProcessWhoseLeaderHasEndedIsWhereItsThreadsAre(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0123456789abcdef", 4)
	stat := func(tid int, state string) string {
		return fmt.Sprintf("%d (server) %s 1 7 7 0 -1 4194304%s 3%s\n", tid, state, strings.Repeat(" 0", 10), strings.Repeat(" 0", 32))
	}
	tests := []struct {
		name           string
		leader, thread string // their cgroup files
		word           string
	}{
		{"in v1", "4:memory:/\n1:name=systemd:/\n", "4:memory:/web/a\n1:name=systemd:/\n", "/web"},
		{"in v1 beside v2", "4:memory:/\n0::/\n", "4:memory:/web/a\n0::/\n", "/sys/fs/cgroup/memory/web"},
		{"in v2, and was moved", "0::/old.slice\n", "0::/web/a\n", "/web"},
		{"in a container", "4:memory:/\n0::/\n", "4:memory:/docker/" + id + "\n0::/\n", id},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for tid, state := range map[int]string{7: "Z", 8: "X", 9: "S"} {
				groups := tt.leader
				if state == "S" {
					groups = tt.thread
				}
				dir := filepath.Join(root, "proc/7/task", fmt.Sprint(tid))
				write(t, filepath.Join(dir, "stat"), stat(tid, state))
				write(t, filepath.Join(dir, "cgroup"), groups)
			}
			write(t, filepath.Join(root, "proc/7/stat"), stat(7, "Z"))
			write(t, filepath.Join(root, "proc/7/cgroup"), tt.leader)
			// One that lives is where the kernel says.
			write(t, filepath.Join(root, "proc/20/stat"), stat(20, "S"))
			write(t, filepath.Join(root, "proc/20/cgroup"), tt.leader)
			f := of(t, root)
			var got []int
			if tt.word == id {
				c, err := f.Container(id[:12])
				if err != nil {
					t.Fatal(err)
				}
				got = c.PIDs()
			} else {
				g, err := f.Cgroup(tt.word)
				if err != nil {
					t.Fatal(err)
				}
				got = g.PIDs()
			}
			if !slices.Equal(got, []int{7}) {
				t.Errorf("processes %v, want 7", got)
			}
		})
	}
}

func TestFilesOfOthersThatAreNoFiles(t *testing.T) {
	t.Parallel()
	const list = "home/alice/.local/share/containers/storage/overlay-containers/containers.json"
	tests := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"a FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }, "not a regular file"},
		{"a link to a device", func(p string) error { return os.Symlink("/dev/zero", p) }, "not a regular file"},
		{"a file of gigabytes", func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 4<<30))
		}, "larger than 16 MiB"},
		{"a secret of another user", func(p string) error { return os.Symlink("/etc/passwd", p) }, "bad JSON at byte 1"},
		{"a list of something else", func(p string) error { return os.WriteFile(p, []byte(`[{"id":{}}]`), 0o644) }, "unexpected JSON at byte"},
		{"a bomb of brackets", func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("[", 1<<20)), 0o644) }, "bad JSON"},
		{"a loop of links", func(p string) error { return os.Symlink(p, p) }, "too many levels"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := machine(t, "podman-systemd-v2")
			if err := os.Remove(f.path(list)); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(f.path(list)); err != nil {
				t.Fatal(err)
			}
			_, err := f.Container("web")
			if !errors.Is(err, procmaps.ErrGone) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "root:") {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
			// What the others are called can still be read.
			if c, err := f.Container("batch"); err != nil {
				t.Errorf("%v, %v", c, err)
			}
		})
	}
}

// A user's lists are all one file, which is larger than what is read of that user by a
// few of them.
func TestFilesOfOneUserAreReadWithinABudget(t *testing.T) {
	t.Parallel()
	const alice, bob = "home/alice/.local/share/containers/storage", "home/bob/.local/share/containers/storage"
	id := strings.Repeat("0b", 32)
	for _, tt := range []struct {
		name string
		user quota.Limits
		want string
	}{
		{"of bytes", quota.Limits{Bytes: 1 << 20, Time: time.Hour}, "read names of containers: the budget is used up: 1.0 MiB for user 1000"},
		{"of time", quota.Limits{Bytes: 1 << 40, Time: 100 * time.Millisecond}, "read names of containers: the budget is used up: 100ms of CPU time for user 1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := machine(t, "podman-systemd-v2")
			write(t, f.path("proc/95/cgroup"), "0::/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-"+id+".scope/container\n")
			write(t, f.path("etc/passwd"), "alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n")
			write(t, f.path(bob+"/overlay-containers/containers.json"), `[{"id": "`+id+`", "names": ["db"]}]`)
			list := f.path("home/alice/list")
			write(t, list, "["+strings.Repeat(`{"id": "", "names": []}, `, 10_000)+`{"id": "", "names": []}]`)
			if err := os.RemoveAll(f.path(alice)); err != nil {
				t.Fatal(err)
			}
			for i := range 200 {
				dir := f.path(filepath.Join(alice, fmt.Sprintf("%d-containers", i)))
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(list, filepath.Join(dir, "containers.json"))); err != nil {
					t.Fatal(err)
				}
			}
			all := quota.Limits{Bytes: 1 << 50, Time: 1000 * time.Hour}
			search := func(word string) (*Container, error) {
				f.reads = quota.New(tt.user, all)
				return f.Container(word)
			}
			_, err := search("web")
			if !errors.Is(err, procmaps.ErrGone) || strings.Count(err.Error(), tt.want) != 1 {
				t.Errorf("%v, want %q in it once", err, tt.want)
			}
			for _, other := range []string{"batch", "db"} { // root's and another user's
				if c, err := search(other); err != nil {
					t.Errorf("%v, %v", c, err)
				}
			}
		})
	}
}

func TestOnlyAFewOfTheErrorsAreTold(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 5 {
		id := fmt.Sprintf("%064x", i)
		write(t, filepath.Join(root, "proc", fmt.Sprint(i+1), "cgroup"), "0::/docker/"+id+"\n")
		write(t, filepath.Join(root, "var/lib/docker/containers", id, "config.v2.json"), "{")
	}
	_, err := of(t, root).Container("web")
	if err == nil || strings.Count(err.Error(), "bad JSON") != 3 || !strings.Contains(err.Error(), "; and 2 more)") {
		t.Error(err)
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	var f Finder
	if _, _, err := f.containers(); err != nil {
		t.Fatal(err)
	}
	g, err := f.Cgroup("/")
	if err != nil || !slices.Contains(g.PIDs(), os.Getpid()) {
		t.Errorf("we are not in the root's groups: %v (%v)", g, err)
	}
}

func FuzzParsers(f *testing.F) {
	for _, name := range []string{"docker-systemd-v2", "docker-cgroupfs-v1", "containerd-systemd-v2", "crio-systemd-v2", "podman-systemd-v2"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range regexp.MustCompile(`(?m)^-- .* --\n`).Split(string(b), -1) {
			f.Add([]byte(part))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, err := parseDocker(b); err != nil && names != nil || slices.Contains(names, "") {
			t.Errorf("docker: %q, %v", names, err)
		}
		all, err := parseStorage(b)
		for id, names := range all {
			if err != nil || !isID(id) || slices.Contains(names, "") {
				t.Errorf("storage: %q: %q, %v", id, names, err)
			}
		}
		if v, err := parseBundle(b); err != nil && (v.names != nil || v.cgroup != "") || v.cgroup == "/" || v.cgroup != "" && !filepath.IsAbs(v.cgroup) {
			t.Errorf("bundle: %+v, %v", v, err)
		}
		if dir, err := parseDaemon(b); dir != "" && (err != nil || !filepath.IsAbs(dir)) {
			t.Errorf("daemon: %q, %v", dir, err)
		}
		homes, _ := parsePasswd(b) // of lines that are wrong nothing is said: there may be others
		for uid, home := range homes {
			if !filepath.IsAbs(home) || strings.ContainsAny(uid, "/.") {
				t.Errorf("passwd: %q at %q", uid, home)
			}
		}
	})
}

func FuzzMembers(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, p := range []string{
		"/", "", "/docker/" + id, "/system.slice/docker-" + id + ".scope/docker/" + id, "/a.slice:cri-containerd:" + id,
		"/../../docker/" + id, "//" + id + "/", "/libpod-conmon-" + id + ".scope", id,
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		for _, m := range membersOf(p) {
			if !isID(m.id) || !below(p, m.path) || !strings.HasSuffix(strings.TrimSuffix(m.path, ".scope"), m.id) {
				t.Errorf("%q is in %+v", p, m)
			}
		}
	})
}
