// Package heaps has programs in whose malloc heap small blocks are kept by one
// function, or by nobody, amid innocents who allocate as much or far more and give it
// back: what a tool that says who keeps a heap is to be tried with. Each states the
// truth about itself. The programs are built from sources that the package carries.
//
// Every program goes at the rate that it is given from when it prints "ready", by the
// clock, and exits after the seconds it is given. None keeps more than 1 GiB.
package heaps

import (
	"cmp"
	"slices"
	"time"
)

// How says in which way a program has its allocator.
type How string

// The ways.
const (
	Plain     How = ""           // the C library's own, linked dynamically
	Preloaded How = "preloaded"  // by LD_PRELOAD
	Linked    How = "linked"     // linked dynamically
	Within    How = "within"     // linked statically, the C library dynamically
	Static    How = "static"     // the program is static
	Runtime   How = "of runtime" // of a language's runtime
)

// Case is a program and the truth about it.
type Case struct {
	Name string
	// File is the main source, or for Go the folder, and Mode the first argument.
	File, Mode string
	// Allocator is whose malloc it is, and How how the program has it.
	Allocator string
	How       How
	// Stripped says that the names are gone, but for what is exported.
	Stripped, Exported bool
	// Blocks are the smallest and the largest that are kept (or, where nobody leaks,
	// held), in bytes.
	Blocks [2]int
	// Rate is how many bytes a second are kept; where nobody leaks what the speed of
	// the innocents follows from.
	Rate int
	// Times is how many times as much the innocents allocate and give back.
	Times int
	// Leaks is false where nobody leaks. AtMost is how many bytes are resident at most,
	// there, of an allocator that gives back what is free.
	Leaks  bool
	AtMost int
	// Keepers are functions of which each is right: who asks for the blocks that are
	// kept, or puts them where they stay, and callers that nobody else has. Where
	// nobody leaks it is who holds what is there, for a while: they may be said to
	// keep it, but not to leak.
	Keepers []string
	// Innocents are functions that must not be named: they give back what they take,
	// or hand it out to keepers and innocents alike.
	Innocents []string
}

// KeptPerMinute is how many bytes are kept in a minute.
func (c *Case) KeptPerMinute() int {
	if !c.Leaks {
		return 0
	}
	return 60 * c.Rate
}

// RateFor is the rate for a run of some length: that of the case, or, where that would
// be more than 1 GiB, a lower one.
func (c *Case) RateFor(run time.Duration) int {
	const most = 1 << 30
	return min(c.Rate, int(most/max(run.Seconds(), 1)))
}

// All returns all programs, each name once.
func All() []Case {
	all := slices.Concat(inC(), othersInC(), calmInC(), inOtherLanguages())
	for i := range all {
		c := &all[i]
		c.Allocator = cmp.Or(c.Allocator, "glibc")
	}
	return all
}

// Six returns the programs that differ most from each other, for benchmarks: wrappers,
// one block in a hundred, 64 threads, another thread that frees, C++ with another
// allocator, and one in which nobody leaks.
func Six() []Case { return named("wrappers", "hundredth", "crowd", "audit", "cycle", "lru calm") }

// Few returns a short selection, for tests that have no time for all.
func Few() []Case { return named("tiles", "listeners", "pools") }

func named(names ...string) []Case {
	var some []Case
	for _, c := range All() {
		if slices.Contains(names, c.Name) {
			some = append(some, c)
		}
	}
	return some
}

func inC() []Case {
	deep := []string{
		"xmalloc", "pool_get", "arena_new", "make_node", "make_text",
		"parse_query", "render_page", "drop_page", "remember_query", "request",
	}
	blocks := []string{"compress_block", "encode_frame", "recycle_frame", "request"}
	crowd := []string{"new_item", "handle_request", "cache_reply", "request"}
	return []Case{
		{
			Name: "wrappers", File: "deep.c", Mode: "index",
			Blocks: [2]int{32, 64}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"index_term"}, Innocents: deep,
		},
		{
			Name: "wrappers stripped jemalloc", File: "deep.c", Mode: "index", Allocator: "jemalloc", How: Preloaded, Stripped: true,
			Blocks: [2]int{32, 64}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"index_term"}, Innocents: deep,
		},
		{
			Name: "wrappers musl", File: "deep.c", Mode: "index", Allocator: "musl", How: Static,
			Blocks: [2]int{32, 64}, Rate: 300e3, Times: 50, Leaks: true, Keepers: []string{"index_term"}, Innocents: deep,
		},
		{
			Name: "fifth static", File: "deep.c", Mode: "fifth", How: Static,
			Blocks: [2]int{128, 128}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"sample_term"}, Innocents: deep,
		},
		{
			Name: "fifth stripped", File: "deep.c", Mode: "fifth", Stripped: true,
			Blocks: [2]int{128, 128}, Rate: 100e3, Times: 100, Leaks: true, Keepers: []string{"sample_term"}, Innocents: deep,
		},
		{
			Name: "drip", File: "deep.c", Mode: "drip",
			Blocks: [2]int{16, 16}, Rate: 10, Times: 1000, Leaks: true, Keepers: []string{"note_error"}, Innocents: deep,
		},
		{
			Name: "hundredth", File: "blocks.c", Mode: "hundredth", Allocator: "tcmalloc", How: Linked,
			Blocks: [2]int{256, 256}, Rate: 50e3, Times: 300, Leaks: true, Keepers: []string{"take_ticket"}, Innocents: blocks,
		},
		{
			Name: "trickle", File: "blocks.c", Mode: "trickle", Allocator: "mimalloc", How: Preloaded,
			Blocks: [2]int{32, 32}, Rate: 10e3, Times: 1000, Leaks: true, Keepers: []string{"count_hit"}, Innocents: blocks,
		},
		{
			Name: "tiles", File: "blocks.c", Mode: "large",
			Blocks: [2]int{32 << 10, 32 << 10}, Rate: 2e6, Times: 10, Leaks: true, Keepers: []string{"load_tile"}, Innocents: blocks,
		},
		{
			Name: "tiles jemalloc within", File: "blocks.c", Mode: "large", Allocator: "jemalloc", How: Within,
			Blocks: [2]int{32 << 10, 32 << 10}, Rate: 2e6, Times: 10, Leaks: true, Keepers: []string{"load_tile"}, Innocents: blocks,
		},
		{
			Name: "flood", File: "blocks.c", Mode: "flood",
			Blocks: [2]int{64 << 10, 64 << 10}, Rate: 50e6, Times: 1, Leaks: true, Keepers: []string{"record_frame"}, Innocents: blocks,
		},
		{
			Name: "crowd", File: "crowd.c", Mode: "all",
			Blocks: [2]int{108, 508}, Rate: 640e3, Times: 50, Leaks: true, Keepers: []string{"open_session"}, Innocents: crowd,
		},
		{
			Name: "crowd mimalloc", File: "crowd.c", Mode: "one", Allocator: "mimalloc", How: Linked,
			Blocks: [2]int{128, 128}, Rate: 300e3, Times: 128, Leaks: true, Keepers: []string{"collect_stats"},
			Innocents: append(crowd, "open_session"),
		},
	}
}

func othersInC() []Case {
	handoff := []string{"new_message", "make_news", "make_quote", "make_others", "receive_news"}
	texts := []string{"split_line", "format_reply", "request"}
	return []Case{
		{
			Name: "audit", File: "handoff.c", Mode: "audit", Allocator: "tcmalloc", How: Preloaded,
			Blocks: [2]int{200, 200}, Rate: 50e3, Times: 300, Leaks: true,
			Keepers: []string{"audit_order", "receive_order", "make_order"}, Innocents: handoff,
		},
		{
			Name: "mail", File: "handoff.c", Mode: "mail",
			Blocks: [2]int{224, 524}, Rate: 300e3, Times: 50, Leaks: true,
			Keepers: []string{"file_mail", "make_mail"}, Innocents: append(handoff, "receive_order", "make_order"),
		},
		{
			Name: "columns", File: "vectors.c", Mode: "columns",
			Blocks: [2]int{32, 2048}, Rate: 200e3, Times: 50, Leaks: true, Keepers: []string{"add_sample"},
			Innocents: []string{"append", "new_vector", "free_vector", "build_reply", "log_line", "trim_log", "request"},
		},
		{
			Name: "visits beside an lru", File: "lru.c", Mode: "leak",
			Blocks: [2]int{76, 276}, Rate: 50e3, Times: 30, Leaks: true, Keepers: []string{"track_visit"},
			Innocents: []string{"xalloc", "new_entry", "cache_store", "evict", "answer", "request"},
		},
		{
			Name: "reload", File: "reload.c", Mode: "burst",
			Blocks: [2]int{16, 121}, Rate: 300e3, Times: 30, Leaks: true, Keepers: []string{"register_plugin"},
			Innocents: []string{"get", "copy_text", "new_node", "read_config", "free_config", "apply_rule"},
		},
		{
			Name: "symbols", File: "texts.c", Mode: "intern", Allocator: "tcmalloc", How: Preloaded,
			Blocks: [2]int{20, 70}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"intern_symbol"},
			Innocents: texts,
		},
		{
			Name: "log of eight threads", File: "texts.c", Mode: "log",
			Blocks: [2]int{40, 150}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"append_line"},
			Innocents: texts,
		},
		{
			Name: "plugin", File: "host.c", Mode: "plugin", Stripped: true, Exported: true,
			Blocks: [2]int{308, 708}, Rate: 200e3, Times: 50, Leaks: true, Keepers: []string{"plugin_open_channel"},
			Innocents: []string{"channel_alloc", "plugin_ping", "host_poll", "request"},
		},
		{
			Name: "slabs", File: "slabs.c", Mode: "objects",
			Blocks: [2]int{64, 64}, Rate: 200e3, Times: 100, Leaks: true, Keepers: []string{"watch_key"},
			Innocents: []string{"slab_refill", "object_get", "object_put", "lookup", "scan", "request"},
		},
	}
}

func calmInC() []Case {
	calm := []string{"new_block", "format_page"}
	return []Case{
		{
			Name: "handoff calm", File: "handoff.c", Mode: "calm",
			Blocks: [2]int{84, 384}, Rate: 300e3, Times: 50, AtMost: 16 << 20,
			Innocents: []string{"new_message", "make_news", "make_quote", "make_others", "receive_news"},
		},
		{
			Name: "vectors calm", File: "vectors.c", Mode: "calm",
			Blocks: [2]int{32, 2048}, Rate: 200e3, Times: 50, AtMost: 8 << 20, Keepers: []string{"log_line"},
			Innocents: []string{"append", "new_vector", "free_vector", "build_reply", "trim_log", "request"},
		},
		{
			Name: "lru calm", File: "lru.c", Mode: "calm", Allocator: "jemalloc", How: Preloaded,
			Blocks: [2]int{76, 276}, Rate: 50e3, Times: 30, AtMost: 16 << 20, Keepers: []string{"cache_store"},
			Innocents: []string{"xalloc", "new_entry", "evict", "answer", "request"},
		},
		{
			Name: "cache that fills", File: "calm.c", Mode: "fill",
			Blocks: [2]int{116, 916}, Rate: 4e6, Times: 1, AtMost: 24 << 20, Keepers: []string{"cache_page"},
			Innocents: append(calm, "fill"),
		},
		{
			Name: "pools", File: "calm.c", Mode: "pools",
			Blocks: [2]int{32, 332}, Rate: 5e6, Times: 1, AtMost: 32 << 20, Keepers: []string{"pool_take"},
			Innocents: append(calm, "pool_reset", "pools"),
		},
		{
			Name: "fragment", File: "calm.c", Mode: "fragment",
			Blocks: [2]int{40, 12304}, Rate: 4e6, Times: 1, AtMost: 32 << 20, Keepers: []string{"place"}, Innocents: calm,
		},
		{
			Name: "waves musl", File: "calm.c", Mode: "waves", Allocator: "musl", How: Static,
			Blocks: [2]int{516, 3516}, Rate: 20e6, Times: 1, AtMost: 96 << 20, Keepers: []string{"hold_batch"},
			Innocents: append(calm, "drop_batch", "pool_reset", "waves"),
		},
		{
			Name: "reload calm", File: "reload.c", Mode: "calm", Allocator: "mimalloc", How: Preloaded,
			Blocks: [2]int{16, 121}, Rate: 300e3, Times: 30, AtMost: 32 << 20, Keepers: []string{"read_config"},
			Innocents: []string{"get", "copy_text", "new_node", "free_config", "apply_rule"},
		},
	}
}

func inOtherLanguages() []Case {
	market := []string{"market::parse", "market::quote", "market::request"}
	rust := []string{"heaps::new_record", "heaps::parse_request"}
	inGo := []string{"main.newRecord", "main.(*worker).encodePage", "main.(*worker).request", "main.(*worker).serve"}
	python := []string{"node_alloc", "digest_block", "digest", "render_page"}
	return []Case{
		{
			Name: "listeners", File: "market.cc", Mode: "listeners",
			Blocks: [2]int{32, 80}, Rate: 200e3, Times: 50, Leaks: true,
			Keepers: []string{"market::Feed::subscribe", "market::subscribe"}, Innocents: append(market, "market::Cache::store"),
		},
		{
			Name: "cycle", File: "market.cc", Mode: "cycle", Allocator: "mimalloc", How: Preloaded, Stripped: true, Exported: true,
			Blocks: [2]int{232, 232}, Rate: 200e3, Times: 50, Leaks: true,
			Keepers: []string{"market::link_trades"}, Innocents: append(market, "market::Cache::store"),
		},
		{
			Name: "market calm", File: "market.cc", Mode: "calm", Allocator: "tcmalloc", How: Linked,
			Blocks: [2]int{24, 301}, Rate: 200e3, Times: 50, AtMost: 48 << 20, Keepers: []string{"market::Cache::store"}, Innocents: market,
		},
		{
			Name: "rust registry", File: "heaps.rs", Mode: "registry",
			Blocks: [2]int{8, 240}, Rate: 200e3, Times: 50, Leaks: true,
			Keepers: []string{"heaps::register"}, Innocents: append(rust, "heaps::cache_page"),
		},
		{
			Name: "rust registry jemalloc", File: "heaps.rs", Mode: "registry", Allocator: "jemalloc", How: Preloaded, Stripped: true,
			Blocks: [2]int{8, 240}, Rate: 200e3, Times: 50, Leaks: true,
			Keepers: []string{"heaps::register"}, Innocents: append(rust, "heaps::cache_page"),
		},
		{
			Name: "rust calm", File: "heaps.rs", Mode: "calm",
			Blocks: [2]int{8, 400}, Rate: 200e3, Times: 50, AtMost: 16 << 20, Keepers: []string{"heaps::cache_page"}, Innocents: rust,
		},
		{
			Name: "go registry", File: "goheaps", Mode: "registry", Allocator: "go", How: Runtime,
			Blocks: [2]int{112, 112}, Rate: 300e3, Times: 50, Leaks: true, Keepers: []string{"main.(*worker).registerUser"},
			Innocents: append(inGo, "main.(*worker).cachePut", "main.(*worker).fillBatch"),
		},
		{
			Name: "go calm", File: "goheaps", Mode: "calm", Allocator: "go", How: Runtime,
			Blocks: [2]int{112, 112}, Rate: 300e3, Times: 50, AtMost: 48 << 20,
			Keepers: []string{"main.(*worker).cachePut", "main.(*worker).fillBatch"}, Innocents: inGo,
		},
		{
			Name: "python extension", File: "heapext.py", Mode: "leak",
			Blocks: [2]int{166, 166}, Rate: 100e3, Times: 30, Leaks: true,
			Keepers: []string{"parse_document", "parse"}, Innocents: append(python, "cache_put"),
		},
		{
			Name: "python calm", File: "heapext.py", Mode: "calm",
			Blocks: [2]int{600, 3600}, Rate: 100e3, Times: 30, AtMost: 64 << 20,
			Keepers: []string{"cache_put"}, Innocents: append(python, "parse_document", "parse"),
		},
	}
}
