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

	"github.com/maptrace/maptrace/procmaps"
)

// namer reads the names of containers and keeps what went wrong.
type namer struct {
	f      Finder
	byID   map[string]*Container
	doubts []error
}

// name finds the names of containers, and the containers whose ID is no hash: one
// that "ctr run" started has its cgroup in its bundle.
func (f Finder) name(byID map[string]*Container, groups map[int][]procmaps.Cgroup) []error {
	n := namer{f: f, byID: byID}
	bases := n.homes()
	n.docker(append([]string{n.dockerRoot()}, each(bases, ".local/share/docker")...))
	// What need not outlive a reboot may be in /run: transient_store of storage.conf.
	n.storage(append([]string{"/var/lib/containers/storage", "/run/containers/storage"}, each(bases, ".local/share/containers/storage")...))
	n.bundles(groups)
	return n.doubts
}

func each(dirs []string, below string) []string {
	var all []string
	for _, d := range dirs {
		all = append(all, filepath.Join(d, below))
	}
	return all
}

// doubt keeps an error, unless it is that something is not there.
func (n *namer) doubt(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.doubts = append(n.doubts, err)
	}
}

// load reads and parses a file; nothing if it is not there or no good.
func load[T any](n *namer, name string, parse func([]byte) (T, error)) T {
	var none T
	b, err := readState(n.f.path(name))
	if err != nil {
		n.doubt(err)
		return none
	}
	v, err := parse(b)
	if err != nil {
		n.doubt(fmt.Errorf("%s: %w", n.f.path(name), err))
		return none
	}
	return v
}

// homes are the home directories of the users whose containers run: systemd keeps
// what a user runs below user-UID.slice.
func (n *namer) homes() []string {
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
	users := load(n, "/etc/passwd", parsePasswd)
	var homes []string
	for _, uid := range uids {
		if home := users[uid]; home != "" {
			homes = append(homes, home)
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
func (n *namer) dockerRoot() string {
	const usual = "/var/lib/docker"
	root := load(n, "/etc/docker/daemon.json", parseDaemon)
	if root == "" {
		return usual
	}
	return root
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
func (n *namer) docker(roots []string) {
	for _, root := range roots {
		for id, c := range n.byID {
			if c.Runtime == "docker" || c.Runtime == "" {
				c.Names = append(c.Names, load(n, filepath.Join(root, "containers", id, "config.v2.json"), parseDocker)...)
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
func (n *namer) storage(roots []string) {
	for _, root := range roots {
		entries, err := readDir(n.f.path(root))
		n.doubt(err)
		for _, e := range entries {
			if !strings.HasSuffix(e, "-containers") {
				continue
			}
			dir := filepath.Join(root, e)
			for _, list := range []string{"containers.json", "volatile-containers.json"} {
				for id, names := range load(n, filepath.Join(dir, list), parseStorage) {
					if c := n.byID[id]; c != nil {
						c.Names = append(c.Names, names...)
						// cri-o: internal/storage/runtime.go; server/container_create.go
						// saves the specification there. podman's has no such annotations.
						b := load(n, filepath.Join(dir, id, "userdata", "config.json"), parseBundle)
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
func (n *namer) bundles(groups map[int][]procmaps.Cgroup) {
	for _, state := range []string{"/run/containerd", "/run/k3s/containerd"} {
		root := filepath.Join(state, "io.containerd.runtime.v2.task")
		namespaces, err := readDir(n.f.path(root))
		n.doubt(err)
		for _, ns := range namespaces {
			ids, err := readDir(n.f.path(filepath.Join(root, ns)))
			n.doubt(err)
			for _, id := range ids {
				b := load(n, filepath.Join(root, ns, id, "config.json"), parseBundle)
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
