package procmaps

import (
	"bytes"
	"math"
	"strings"
)

// Cgroup is one line of /proc/PID/cgroup.
type Cgroup struct {
	Hierarchy   int      // 0 for cgroup v2
	Controllers []string // nil for cgroup v2
	// Path is relative to the root of the reader's cgroup namespace; it begins
	// with "/.." for a group outside of it.
	Path string
}

// ParseCgroup parses the text of a cgroup file. Malformed text is a
// [*ParseError] that names file.
func ParseCgroup(data []byte, file string) ([]Cgroup, error) {
	var groups []Cgroup
	l := lines{buf: data, file: file}
	for l.pos < len(data) {
		line, err := l.next()
		if err != nil {
			return nil, err
		}
		id, rest, ok := cutDec(line)
		if !ok || id > math.MaxInt32 || len(rest) == 0 || rest[0] != ':' {
			return nil, parseError(file, l.n, line, "bad hierarchy number")
		}
		// The path may hold colons, the controllers do not.
		names, path, ok := bytes.Cut(rest[1:], []byte{':'})
		if !ok {
			return nil, parseError(file, l.n, line, "no path")
		}
		g := Cgroup{Hierarchy: int(id), Path: string(path)}
		if len(names) > 0 {
			g.Controllers = strings.Split(string(names), ",")
		}
		groups = append(groups, g)
	}
	return groups, nil
}
