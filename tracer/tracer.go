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

// What a source gives and is asked is in package order.
type (
	// Event is one thing that a source reports.
	Event = order.Event
	// Look is what reading a process' mappings gave.
	Look = order.Look
	// Task is a traced process as the kernel knows it now.
	Task = order.Task
	// Source gives events in the order in which they arrived.
	Source = order.Source
	// World is what is asked about living processes.
	World = order.World
	// Sites makes numbers of stacks.
	Sites = order.Sites
	// Options say what a session does.
	Options = order.Options
	// Tracer is its loop.
	Tracer = order.Tracer
)

// ErrIdle is returned by a Source that has no event now.
var ErrIdle = order.ErrIdle

// New returns a Tracer. World is nil where there is none.
func New(src Source, world World, opts Options) *Tracer { return order.New(src, world, opts) }

// What comes of it is in package model.
type (
	// Kind says what a Change is.
	Kind = model.Kind
	// Flags qualify it.
	Flags = model.Flags
	// Change is one thing that happened.
	Change = model.Change
	// Process is one traced process.
	Process = model.Process
	// Picture says how far a tree can be trusted.
	Picture = model.Picture
	// Stats count what was seen: Figures before the operations are in order, Counts by
	// them.
	Stats = model.Stats
	// Figures are a part of Stats.
	Figures = model.Figures
	// Counts are the other part of Stats.
	Counts = model.Counts
	// Report is everything that is known, but for the trees.
	Report = model.Report
	// SpaceReport is what it says of one address space.
	SpaceReport = model.SpaceReport
	// NotVerified is memory that could not be compared with /proc.
	NotVerified = model.NotVerified
	// Timing is how long one call took.
	Timing = model.Timing
	// Latency is what all calls of an operation took.
	Latency = model.Latency
	// TimingCounters tell what is missing from what was measured.
	TimingCounters = model.TimingCounters
	// Blame is what an origin's site holds.
	Blame = model.Blame
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
	KindMade       = model.KindMade
	KindTiming     = model.KindTiming
	KindReread     = model.KindReread
	KindDrift      = model.KindDrift
	KindBegin      = model.KindBegin
	KindUnkept     = model.KindUnkept
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

// NothingVerified is why nothing is exact where audits were asked for, and none has been
// completed.
const NothingVerified = model.NothingVerified

// Unseen is why a picture kept by polling this often is never exact.
func Unseen(every time.Duration) string { return model.Unseen(every) }
