package render

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/space"
)

// The objects of --json, one a line. Their names are stable: new ones may come,
// none changes its meaning. Sizes are in bytes; addresses are strings, since
// numbers above 2^53 do not survive every reader.

// Address prints as "0x7f…" in JSON.
type Address uint64

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) {
	return strconv.AppendUint([]byte("0x"), uint64(a), 16), nil
}

func errnoName(e unix.Errno) string {
	if s := unix.ErrnoName(e); s != "" {
		return s
	}
	return "errno " + strconv.Itoa(int(e))
}

// TableObject is the table of one address space.
type TableObject struct {
	Event   string         `json:"event"` // "table"
	Time    time.Time      `json:"time"`
	PID     int            `json:"pid"`
	NSPID   int            `json:"ns_pid,omitempty"` // in the process' own pid namespace, where it is another
	Comm    table.Name     `json:"comm"`
	Exited  bool           `json:"exited"`
	Picture string         `json:"picture"`
	Size    uint64         `json:"size"`
	Delta   int64          `json:"delta"` // since tracing the address space began
	Regions []RegionObject `json:"regions"`
	Gone    []RegionObject `json:"gone"` // mapped at the start, and not any more

	// How many bytes audits could not compare, and for how many seconds.
	Unverified    uint64  `json:"unverified,omitempty"`
	UnverifiedFor float64 `json:"unverified_for,omitempty"`
}

// RegionObject is one row of a table.
type RegionObject struct {
	Address Address    `json:"address"`
	Size    uint64     `json:"size"`
	Delta   int64      `json:"delta"` // what of it was not mapped at the start
	Ops     uint64     `json:"ops"`
	Extents int        `json:"extents"`
	Mode    string     `json:"mode"`
	Kind    string     `json:"kind"`
	Mapping table.Name `json:"mapping,omitempty"`
	Offset  uint64     `json:"offset,omitempty"`
	Device  string     `json:"device,omitempty"`
	Inode   uint64     `json:"inode,omitempty"`
}

// SummaryObject is the end of a run.
type SummaryObject struct {
	Event      string            `json:"event"` // "summary"
	Time       time.Time         `json:"time"`
	Picture    string            `json:"picture"`
	Ordering   string            `json:"ordering"`
	Calls      uint64            `json:"calls"`
	ByOp       map[string]uint64 `json:"by_op"`
	Failed     uint64            `json:"failed"`
	Suppressed uint64            `json:"suppressed"` // not among the calls
	Forks      uint64            `json:"forks"`
	Execs      uint64            `json:"execs"`
	Exits      uint64            `json:"exits"`
	Processes  uint64            `json:"processes"`
	Sections   uint64            `json:"sections"`
	Missed     uint64            `json:"missed"`
	Other      uint64            `json:"other"`
	Lost       uint64            `json:"lost"`
	Skipped    uint64            `json:"skipped"`
	Late       uint64            `json:"late"`
	Violations uint64            `json:"violations"`
	Drift      uint64            `json:"drift"`
	Audits     uint64            `json:"audits"`
	Unfinished uint64            `json:"audits_unfinished"`
	Unverified uint64            `json:"unverified"` // address spaces that audits could not compare all of
	Unaudited  uint64            `json:"unaudited"`  // those that none has compared: they ended too soon
	Rereads    uint64            `json:"rereads"`
	Untracked  uint64            `json:"untracked"`
	Coarsened  uint64            `json:"coarsened"`
	Unkept     uint64            `json:"unkept"`

	// Those of polling: looks at everything, the seconds between two, and what
	// they found. What is counted in the kernel is 0 then.
	Looks    uint64  `json:"looks,omitempty"`
	Interval float64 `json:"interval,omitempty"`
	Changes  uint64  `json:"changes,omitempty"`
}

// Summary makes the JSON form of a report's figures.
func Summary(r *tracer.Report, untracked uint64, now time.Time) SummaryObject {
	s := &r.Stats
	o := SummaryObject{
		Event: "summary", Time: now, Picture: r.Picture.String(), Ordering: r.Ordering,
		Calls: s.Calls, ByOp: map[string]uint64{}, Failed: s.Failed, Suppressed: s.Suppressed, Forks: s.Forks, Execs: s.Execs,
		Exits: s.Exits, Processes: s.Processes, Sections: s.Sections, Missed: s.Missed, Other: s.Others,
		Lost: s.Lost, Skipped: s.Skipped, Late: s.Late, Violations: s.Violations, Drift: s.Drift, Audits: s.Audits,
		Unfinished: s.AuditsUnfinished, Unverified: s.Unverified, Unaudited: s.Unaudited, Rereads: s.Rereads, Untracked: untracked, Coarsened: s.Coarsened, Unkept: s.Unkept,
		Looks: s.Looks, Interval: r.Polling.Seconds(), Changes: s.Polled,
	}
	for _, c := range s.ByOp() {
		o.ByOp[c.Name] = c.N
	}
	return o
}

// Table makes the JSON form of one address space.
func Table(r *tracer.SpaceReport, tree *space.Space, now time.Time) TableObject {
	snap := tree.Snapshot()
	diff := space.Diff(r.Start.Snapshot(), snap)
	o := TableObject{
		Event: "table", Time: now, PID: r.Process.PID, NSPID: r.Process.Inner, Comm: table.Name(r.Process.Comm), Exited: r.Process.Exited,
		Picture: r.Picture.String(), Size: snap.Totals.Mapped,
		Delta:   int64(snap.Totals.Mapped - r.Start.Totals.Mapped),
		Regions: []RegionObject{}, Gone: []RegionObject{},
		Unverified: r.Unverified.Bytes, UnverifiedFor: r.Unverified.For.Seconds(),
	}
	for i, m := range snap.Regions {
		o.Regions = append(o.Regions, regionObject(&m, int64(diff.New[i])))
	}
	for _, m := range diff.Gone {
		o.Gone = append(o.Gone, regionObject(&m, -int64(m.Len())))
	}
	return o
}

func regionObject(m *space.Region, delta int64) RegionObject {
	o := RegionObject{
		Address: Address(m.Start), Size: m.Len(), Delta: delta, Ops: m.Ops, Extents: m.Extents,
		Mode: m.Mode.String(), Kind: m.Kind.String(), Mapping: table.Name(m.Name), Offset: m.Offset, Inode: m.Inode,
	}
	if m.Dev != (procmaps.Device{}) {
		o.Device = m.Dev.String()
	}
	return o
}
