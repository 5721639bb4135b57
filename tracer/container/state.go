//go:build linux

package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// What is read of the files of one user, and of all, and the CPU time for that. A
// thousand containers have about 10 MB.
var (
	perUser  = quota.Limits{Bytes: 64 << 20, Time: time.Second}
	allUsers = quota.Limits{Bytes: 512 << 20, Time: 8 * time.Second}
)

// mostWaited is how long is waited for the files of one user: he may serve them himself.
const mostWaited = 5 * time.Second

// namer reads the names of containers and keeps what went wrong.
type namer struct {
	f      Finder
	reads  *quota.Run
	waited map[*quota.Account]time.Duration // by user
	byID   map[string]*Container
	doubts []error
}

// state is a directory in which a runtime keeps files, and what may be read of those of
// the user whose it is.
type state struct {
	dir     string
	account *quota.Account
}

// below is a directory below another.
func (s state) below(elements ...string) state {
	return state{filepath.Join(append([]string{s.dir}, elements...)...), s.account}
}

// name finds the names of containers, and the containers whose ID is no hash: one
// that "ctr run" started has its cgroup in its bundle.
func (f Finder) name(byID map[string]*Container, groups map[int][]procmaps.Cgroup) []error {
	n := namer{f: f, reads: f.reads, waited: make(map[*quota.Account]time.Duration), byID: byID}
	if n.reads == nil {
		n.reads = quota.New(perUser, allUsers)
	}
	root := state{"/", n.reads.Of("user", 0)}
	bases := n.homes(root)
	n.docker(append([]state{n.dockerRoot(root)}, each(bases, ".local/share/docker")...))
	// What need not outlive a reboot may be in /run: transient_store of storage.conf.
	storage := []state{root.below("var/lib/containers/storage"), root.below("run/containers/storage")}
	n.storage(append(storage, each(bases, ".local/share/containers/storage")...))
	n.bundles(root, groups)
	return n.doubts
}

func each(dirs []state, below string) []state {
	var all []state
	for _, d := range dirs {
		all = append(all, d.below(below))
	}
	return all
}

// doubt keeps an error, unless it is that something is not there, or was said of another
// file.
func (n *namer) doubt(err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errGivenUp) {
		return
	}
	if errors.Is(err, quota.ErrSpent) {
		err = fmt.Errorf("read names of containers: %w", err)
		if slices.ContainsFunc(n.doubts, func(d error) bool { return d.Error() == err.Error() }) {
			return
		}
	}
	n.doubts = append(n.doubts, err)
}

// errGivenUp is the error about what is not read because its user takes too long.
var errGivenUp = errors.New("it is not waited for any more")

// wait calls what reads a file of a user, unless he has been waited for for too long. One
// file without an answer is enough: others may be as many as he likes.
func (n *namer) wait(of *quota.Account, read func() error) error {
	if n.waited[of] >= mostWaited {
		return errGivenUp
	}
	began := time.Now()
	err := read()
	n.waited[of] += time.Since(began)
	switch {
	case errors.Is(err, await.ErrStalled):
		n.waited[of] = mostWaited
	case n.waited[of] >= mostWaited:
		n.doubt(fmt.Errorf("read names of containers: the files of one user took longer than %v", mostWaited))
	}
	return err
}

// load reads and parses a file of a state; nothing if it is not there or no good.
func load[T any](n *namer, file state, parse func([]byte) (T, error)) T {
	op := file.account.Start()
	defer op.End()
	var none T
	name := n.f.path(file.dir)
	var b []byte
	err := n.wait(file.account, func() (err error) {
		b, err = readState(name, op.Take)
		return err
	})
	if err != nil {
		n.doubt(err)
		return none
	}
	v, err := parse(b)
	if err != nil {
		n.doubt(fmt.Errorf("%s: %w", name, err))
		return none
	}
	return v
}

// list lists a directory of a state.
func (n *namer) list(dir state) []string {
	op := dir.account.Start()
	defer op.End()
	var names []string
	n.doubt(n.wait(dir.account, func() (err error) {
		names, err = readDir(n.f.path(dir.dir), op.Take)
		return err
	}))
	return names
}

// homes are the home directories of the users whose containers run: systemd keeps
// what a user runs below user-UID.slice.
func (n *namer) homes(root state) []state {
	var uids []string
	for _, c := range n.byID {
		for element := range strings.SplitSeq(c.Path(), "/") {
			uid, ok := strings.CutPrefix(strings.TrimSuffix(element, ".slice"), "user-")
			if ok && !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
	}
	if len(uids) == 0 {
		return nil
	}
	slices.Sort(uids)
	users := load(n, root.below("etc/passwd"), parsePasswd)
	var homes []state
	for _, uid := range uids {
		// One that is no number has no home.
		if number, err := strconv.Atoi(uid); err == nil && users[uid] != "" {
			homes = append(homes, state{users[uid], n.reads.Of("user", number)})
		}
	}
	return homes
}

// parsePasswd finds the home directory of each user number, passwd(5); the first
// entry of a number counts.
func parsePasswd(b []byte) (map[string]string, error) {
	homes := make(map[string]string)
	for line := range bytes.Lines(b) {
		fields := strings.Split(strings.TrimSuffix(string(line), "\n"), ":")
		const uid, home = 2, 5
		if len(fields) <= home || !filepath.IsAbs(fields[home]) {
			continue
		}
		if _, err := strconv.ParseUint(fields[uid], 10, 32); err != nil {
			continue
		}
		if homes[fields[uid]] == "" {
			homes[fields[uid]] = filepath.Clean(fields[home])
		}
	}
	return homes, nil
}

// dockerRoot is where dockerd keeps its state: cmd/dockerd/config.go.
func (n *namer) dockerRoot(root state) state {
	if dir := load(n, root.below("etc/docker/daemon.json"), parseDaemon); dir != "" {
		return state{dir, root.account}
	}
	return root.below("var/lib/docker")
}

// parseDaemon finds the directory that dockerd was told to use: daemon/config.
func parseDaemon(b []byte) (string, error) {
	var v struct {
		Root string `json:"data-root"`
	}
	if err := unmarshal(b, &v); err != nil {
		return "", err
	}
	if v.Root != "" && !filepath.IsAbs(v.Root) {
		return "", errors.New("data-root is no absolute path")
	}
	return v.Root, nil
}

// docker reads what dockerd writes of each container: daemon/container:
// Container.toDisk.
func (n *namer) docker(roots []state) {
	for _, root := range roots {
		for id, c := range n.byID {
			if c.Runtime == "docker" || c.Runtime == "" {
				c.Names = append(c.Names, load(n, root.below("containers", id, "config.v2.json"), parseDocker)...)
			}
		}
	}
}

func parseDocker(b []byte) ([]string, error) {
	var v struct {
		Name   string
		Config struct{ Labels map[string]string }
	}
	if err := unmarshal(b, &v); err != nil {
		return nil, err
	}
	// daemon/names.go: names begin with a slash, for links that were once below.
	return append(nonEmpty(strings.TrimPrefix(v.Name, "/")), kubeNames(v.Config.Labels)...), nil
}

// storage reads the lists that podman and cri-o keep: containers/storage,
// containers.go: containerStore.save. There is one of each storage driver, and one
// of the containers that need not outlive a crash.
func (n *namer) storage(roots []state) {
	for _, root := range roots {
		for _, e := range n.list(root) {
			if !strings.HasSuffix(e, "-containers") {
				continue
			}
			dir := root.below(e)
			for _, list := range []string{"containers.json", "volatile-containers.json"} {
				for id, names := range load(n, dir.below(list), parseStorage) {
					if c := n.byID[id]; c != nil {
						c.Names = append(c.Names, names...)
						// cri-o: internal/storage/runtime.go; server/container_create.go
						// saves the specification there. podman's has no such annotations.
						b := load(n, dir.below(id, "userdata", "config.json"), parseBundle)
						c.Names = append(c.Names, b.names...)
					}
				}
			}
		}
	}
}

func parseStorage(b []byte) (map[string][]string, error) {
	var v []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	if err := unmarshal(b, &v); err != nil {
		return nil, err
	}
	all := make(map[string][]string)
	for _, c := range v {
		if isID(c.ID) {
			all[c.ID] = nonEmpty(c.Names...)
		}
	}
	return all, nil
}

// bundles reads the specifications that containerd gives to runc, of its CRI
// plugin, nerdctl and ctr: core/runtime/v2/bundle.go. k3s has a containerd of its own.
func (n *namer) bundles(root state, groups map[int][]procmaps.Cgroup) {
	for _, dir := range []string{"run/containerd", "run/k3s/containerd"} {
		tasks := root.below(dir, "io.containerd.runtime.v2.task")
		for _, ns := range n.list(tasks) {
			for _, id := range n.list(tasks.below(ns)) {
				b := load(n, tasks.below(ns, id, "config.json"), parseBundle)
				if n.byID[id] == nil {
					n.place(id, b.cgroup, groups)
				}
				if c := n.byID[id]; c != nil {
					c.Names = append(c.Names, b.names...)
					if c.Runtime == "" {
						c.Runtime = "containerd"
					}
				}
			}
		}
	}
}

// place makes a container of a bundle whose cgroup is given by its path.
func (n *namer) place(id, cgroup string, groups map[int][]procmaps.Cgroup) {
	if cgroup == "" {
		return
	}
	g := n.f.pick(groups, func(line procmaps.Cgroup) (string, bool) { return cgroup, below(line.Path, cgroup) })
	if len(g.pids) > 0 {
		n.byID[id] = &Container{ID: id, Group: *g}
	}
}

// bundle is what a specification tells.
type bundle struct {
	names  []string
	cgroup string // a path; empty when systemd is to choose it, or it is the root
}

// parseBundle reads config.json: opencontainers/runtime-spec, config.md.
func parseBundle(b []byte) (bundle, error) {
	var v struct {
		Annotations map[string]string `json:"annotations"`
		Linux       struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if err := unmarshal(b, &v); err != nil {
		return bundle{}, err
	}
	out := bundle{names: kubeNames(v.Annotations)}
	out.names = append(out.names, nonEmpty(v.Annotations["nerdctl/name"])...)
	if p := v.Linux.CgroupsPath; filepath.IsAbs(p) && filepath.Clean(p) != "/" {
		out.cgroup = filepath.Clean(p)
	}
	return out, nil
}

// kubeNames are the names of a container of a pod, by its annotations or labels.
//
//	io.kubernetes.cri.*          containerd: internal/cri/annotations/annotations.go
//	io.kubernetes.container.name cri-o and cri-dockerd, as kubelet has it:
//	                             pkg/kubelet/types/labels.go
func kubeNames(a map[string]string) []string {
	for _, kind := range []string{"io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType", "io.kubernetes.docker.type"} {
		if a[kind] == "sandbox" || a[kind] == "podsandbox" {
			return nil
		}
	}
	for _, keys := range [][3]string{
		{"io.kubernetes.cri.container-name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.sandbox-namespace"},
		{"io.kubernetes.container.name", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"},
	} {
		name, pod, ns := a[keys[0]], a[keys[1]], a[keys[2]]
		if name == "" {
			continue
		}
		names := []string{name}
		if pod != "" {
			names = append(names, pod+"/"+name)
		}
		if pod != "" && ns != "" {
			names = append(names, ns+"/"+pod+"/"+name)
		}
		return names
	}
	return nil
}

func nonEmpty(names ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
}

// unmarshal parses JSON. What its error says of the text is where it is wrong, and
// not what is there: the file may be somebody's link to another.
func unmarshal(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	if e := (*json.SyntaxError)(nil); errors.As(err, &e) {
		return fmt.Errorf("bad JSON at byte %d", e.Offset)
	}
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		return fmt.Errorf("unexpected JSON at byte %d", e.Offset)
	}
	return err
}
