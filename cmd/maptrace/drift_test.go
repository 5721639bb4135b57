package main

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/space"
)

// liar is a kernel that reports no change, and whose /proc shows one page at
// the first look, and two at every other.
type liar struct{ looks atomic.Int64 }

var lied = tracer.Task{PID: 4711, Space: 1, HasSection: true, Section: 1, Comm: "liar"}

func (*liar) Next(*tracer.Event) error                         { return tracer.ErrIdle }
func (*liar) Now() uint64                                      { return bpf.Now() }
func (*liar) Path(int, uint64, procmaps.Device, uint64) string { return "" }
func (*liar) Forget(int)                                       {}
func (*liar) Tasks() ([]tracer.Task, error)                    { return []tracer.Task{lied}, nil }

func (l *liar) Look(int, procmaps.Range, bool, func(int) error) (tracer.Look, error) {
	end := uint64(0x11000)
	if l.looks.Add(1) > 1 {
		end += 0x1000
	}
	row := space.Row{Mapping: procmaps.Mapping{
		Range: procmaps.Range{Start: 0x10000, End: end}, Mode: procmaps.Read,
	}}
	at := bpf.Now()
	return tracer.Look{
		Rows: []space.Row{row}, At: at, Until: bpf.Now(),
		Space: lied.Space, Section: lied.Section, HasSection: true,
	}, nil
}

func (*liar) Info() tracer.Info                   { return tracer.Info{} }
func (*liar) Trace(...int) ([]tracer.Task, error) { return []tracer.Task{lied}, nil }
func (*liar) Untracked() (uint64, error)          { return 0, nil }
func (*liar) Detach() error                       { return nil }
func (*liar) Close() error                        { return nil }

// driftSink keeps the drift it is told of, and ends the run.
type driftSink struct {
	told []render.Event
	stop func()
}

func (d *driftSink) Change(c *tracer.Change) {
	if c.Kind == tracer.KindDrift {
		d.told = render.AppendEvents(d.told, c)
		d.stop()
	}
}
func (*driftSink) Record(*event.Record) {}
func (*driftSink) Idle() error          { return nil }

func TestDriftIsToldAndHasItsExitCode(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), bound)
	defer stop()
	a := &attached{Session: tracer.NewSession(&liar{}, tracer.Options{Verify: time.Millisecond})}
	if err := a.Trace([]int{lied.PID}, nil); err != nil {
		t.Fatal(err)
	}
	drifts := &driftSink{stop: stop}
	if err := a.Run(ctx, tracer.RunOptions{Sinks: []tracer.Sink{drifts}}); err != nil {
		t.Fatal(err)
	}
	told := drifts.told
	if len(told) != 1 || told[0].Op != "drift" || told[0].Range != (procmaps.Range{Start: 0x11000, End: 0x12000}) {
		t.Errorf("told %+v, want one drift in the second page", told)
	}
	var stderr bytes.Buffer
	if code := report(&stderr, a.verdict()); code != exitDrift {
		t.Errorf("exit code %d, want %d", code, exitDrift)
	}
	checkOneLine(t, stderr.String(), "differed from /proc in 1 places")
}

func TestWhatIsNotVerifiedHasTheExitCodeOfDrift(t *testing.T) {
	t.Parallel()
	known := []model.Body{model.Layout{}, model.Join{Comm: "prog\x1b", Numbered: true}, model.Seed{Ended: 2}, model.Begin{}}
	compared := model.Audit{Compared: true}
	part := model.Audit{Compared: true, Unverified: []model.Unverified{{Range: procmaps.Range{Start: 0x1000, End: 0x5000}, Since: 1e9}}}
	for _, c := range []struct {
		name   string
		verify bool
		bodies []model.Body
		code   exitCode
		says   string
	}{
		{"compared", true, []model.Body{compared, model.Figures{Audits: 1}}, exitOK, ""},
		{"audits that were not asked for", false, []model.Body{model.Figures{}}, exitOK, ""},
		{"over before the first audit", true, []model.Body{model.Figures{}}, exitDrift, "nothing was compared with /proc: it was over too soon"},
		{"no audit that could compare", true, []model.Body{model.Figures{AuditsUnfinished: 7}}, exitDrift, "at each of 7 audits"},
		{
			"a part that could not be compared", true,
			[]model.Body{compared, part, model.Figures{Audits: 2}},
			exitDrift,
			`not verified: of process 7 (prog\x1b), one of 1 such address spaces, 16K could not be compared with /proc for 2s`,
		},
		{"drift and a part", true, []model.Body{part, model.Drift{{}}, model.Figures{Audits: 2}}, exitDrift, "differed from /proc in 1 places"},
		{"a part that was compared again", true, []model.Body{part, compared, model.Figures{Audits: 3}}, exitOK, ""},
	} {
		rec := tracer.NewRecording(model.Options{Verify: c.verify}, 1)
		for _, b := range append(slices.Clip(known), c.bodies...) {
			rec.Apply(&model.Operation{Time: 3e9, Space: 1, TGID: 7, TID: 7, Body: b})
		}
		a := &attached{Session: tracer.Replay(rec), verify: c.verify}
		if err := a.Run(t.Context(), tracer.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		if code := report(&stderr, a.verdict()); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, code, c.code)
		}
		if c.says == "" && stderr.Len() > 0 {
			t.Errorf("%s: printed %q", c.name, stderr.String())
		} else if c.says != "" {
			checkOneLine(t, stderr.String(), c.says)
		}
		rep := a.Report()
		if wrong := c.code != exitOK; wrong != (rep.Picture.String() != "exact") && rep.Stats.Drift == 0 {
			t.Errorf("%s: picture %s", c.name, rep.Picture)
		}
	}
}
