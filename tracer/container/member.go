//go:build linux

package container

import "strings"

// member is a container that a cgroup belongs to.
type member struct {
	id, runtime string
	path        string // the container's own cgroup
}

// prefixes are what runtimes put before the ID, with systemd's driver (in a
// scope) or without.
//
//	docker-ID.scope           moby: daemon/oci_linux.go:WithCgroups (scopePrefix "docker")
//	cri-containerd-ID.scope   containerd: internal/cri/server/helpers.go:getCgroupsPath
//	crio-ID.scope, crio-ID    cri-o: internal/config/cgmgr: ContainerCgroupPath
//	libpod-ID.scope           podman: libpod/container_internal_linux.go:getOCICgroupPath
//	libpod-payload-ID         the same, with --cgroups=split (quadlet units)
//	nerdctl-ID.scope          nerdctl: pkg/cmd/container/run_cgroup_linux.go
//
// A conmon that watches a container has a scope of its own (libpod-conmon-ID,
// crio-conmon-ID), which is not the container's.
var prefixes = []struct{ prefix, runtime string }{
	{"docker-", "docker"},
	{"cri-containerd-", "containerd"},
	{"crio-", "cri-o"},
	{"libpod-payload-", "podman"},
	{"libpod-", "podman"},
	{"nerdctl-", "containerd"},
}

// membersOf lists the containers that a path of /proc/PID/cgroup leads through,
// the outermost first: containers run in containers.
func membersOf(p string) []member {
	var found []member
	parent := ""
	for rest := p; rest != ""; {
		rest = strings.TrimPrefix(rest, "/")
		element, after, _ := strings.Cut(rest, "/")
		end := len(p) - len(after)
		if id, runtime := idOf(element, parent); id != "" {
			found = append(found, member{id, runtime, strings.TrimSuffix(p[:end], "/")})
		}
		parent, rest = element, after
	}
	return found
}

// idOf takes the ID out of one element of a path.
func idOf(element, parent string) (id, runtime string) {
	name := strings.TrimSuffix(element, ".scope")
	for _, p := range prefixes {
		if id, ok := strings.CutPrefix(name, p.prefix); ok && isID(id) {
			return id, p.runtime
		}
	}
	// kubelet and containerd that disagree about the driver make one element of
	// systemd's three parts: SLICE:cri-containerd:ID.
	if parts := strings.Split(element, ":"); len(parts) == 3 && isID(parts[2]) {
		for _, p := range prefixes {
			if parts[1]+"-" == p.prefix {
				return parts[2], p.runtime
			}
		}
		return parts[2], ""
	}
	if !isID(element) {
		return "", ""
	}
	// The cgroupfs driver: /docker/ID; /kubepods/burstable/podUID/ID of any runtime.
	if parent == "docker" {
		return element, "docker"
	}
	return element, ""
}

// isID tells whether a text is the ID of a container: 256 bits in hex.
func isID(s string) bool {
	const digits = 64
	if len(s) != digits {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
