package procmaps

import "errors"

// vsyscall is the one row of maps that is not a mapping of the process: the
// kernel adds it for every process (amd64 only).
const vsyscall = "[vsyscall]"

// errNoQuery says that the kernel, or the file, cannot be asked about one range.
var errNoQuery = errors.New("no PROCMAP_QUERY")

// Query returns the mappings that overlap r, whole, as Maps would show them,
// except that it never returns [vsyscall]. It asks for each with PROCMAP_QUERY
// (6.11+, about 0.7 µs a mapping) and reads all of maps where that is missing.
func (p *Process) Query(r Range) ([]Mapping, error) {
	rows, err := p.query(".", r)
	if errors.Is(err, ErrNoMemory) {
		// The leader may have ended before the other threads.
		p.anyThread(func(dir string) bool {
			rows, err = p.query(dir, r)
			return err == nil
		})
	}
	if err == nil {
		return rows, nil
	}
	// Maps sorts out every other case, and has the better errors.
	all, err := p.Maps()
	if err != nil {
		return nil, err
	}
	rows = nil
	for i := range all {
		if all[i].Overlaps(r) && all[i].Name != vsyscall {
			rows = append(rows, all[i])
		}
	}
	return rows, nil
}

// Has reports whether the process has the mapping m now: one of that range, of that file, and
// of that part of it. It asks as [Process.Query] does, with the same errors.
func (p *Process) Has(m *Mapping) (bool, error) {
	rows, err := p.Query(m.Range)
	if err != nil || len(rows) != 1 {
		return false, err
	}
	now := &rows[0]
	return now.Range == m.Range && now.Dev == m.Dev && now.Inode == m.Inode && now.Offset == m.Offset, nil
}

func (p *Process) query(dir string, r Range) ([]Mapping, error) {
	f, err := p.openMemory(dir, "maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []Mapping
	q := newQuerier(f)
	defer q.close()
	for addr := r.Start; addr < r.End; {
		var m Mapping
		found, err := q.next(addr, &m)
		if err != nil {
			return nil, err
		}
		if !found || m.Start >= r.End {
			break
		}
		next := m.End
		// As when reading maps: a mapping that was merged with, or moved up
		// to, the last one meanwhile would overlap it.
		if n := len(rows); n > 0 && m.Start < rows[n-1].End {
			m.cutBefore(rows[n-1].End)
		}
		rows = append(rows, m)
		addr = next
	}
	return rows, nil
}
