// Package tracer keeps the region trees of traced processes, and tells what changes: it
// has the sources of events, live and polling, and the [Session], which joins a source,
// samplers and sinks.
//
// What happens between a source and a sink is in packages of its own:
//
//	source ──Event──▶ order ──Operation──▶ model ──Change──▶ sinks
package tracer

import (
	"time"

	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/order"
	"github.com/maptrace/maptrace/tracer/space"
)

// Event is what a source gives; the others are what it gives with it, and is asked: see
// package order.
type (
	Event  = order.Event
	Look   = order.Look
	Task   = order.Task
	Source = order.Source
	World  = order.World
	Sites  = order.Sites

	// Options say what a session does, and Tracer is its loop.
	Options = order.Options
	Tracer  = order.Tracer
)

// ErrIdle is returned by a Source that has no event now.
var ErrIdle = order.ErrIdle

// New returns a Tracer. World is nil where there is none.
func New(src Source, world World, opts Options) *Tracer { return order.New(src, world, opts) }

// Kind and the others are what comes of it: see package model.
type (
	Kind           = model.Kind
	Flags          = model.Flags
	Change         = model.Change
	Process        = model.Process
	Picture        = model.Picture
	Stats          = model.Stats
	Figures        = model.Figures
	Counts         = model.Counts
	Report         = model.Report
	SpaceReport    = model.SpaceReport
	Timing         = model.Timing
	Latency        = model.Latency
	TimingCounters = model.TimingCounters
	Stratum        = model.Stratum
	Blame          = model.Blame
)

// The kinds of changes.
const (
	KindCall       = model.KindCall
	KindFork       = model.KindFork
	KindExec       = model.KindExec
	KindExit       = model.KindExit
	KindLost       = model.KindLost
	KindFault      = model.KindFault
	KindWrite      = model.KindWrite
	KindTiming     = model.KindTiming
	KindReread     = model.KindReread
	KindDrift      = model.KindDrift
	KindBegin      = model.KindBegin
	KindSuppressed = model.KindSuppressed
)

// The flags of changes.
const (
	SharesSpace = model.SharesSpace
	Unsampled   = model.Unsampled
	Polled      = model.Polled
	NoStatus    = model.NoStatus
)

// CallName is the word for a call in output.
func CallName(op space.Op, sub space.Sub) string { return model.CallName(op, sub) }

// Unseen is why a picture kept by polling this often is never exact.
func Unseen(every time.Duration) string { return model.Unseen(every) }
