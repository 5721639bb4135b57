package site

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/tracer/stack"
)

func TestPeopleReadNeitherTemplateArgumentsNorImportPaths(t *testing.T) {
	t.Parallel()
	const push = "std::vector<Order, std::allocator<Order> >::push_back"
	for _, c := range []struct {
		name string
		line Line
		want stack.Name
	}{
		{
			"of C++",
			Line{Module: "shop", Function: push, Linkage: "_ZNSt6vectorI5OrderSaIS0_EE9push_backERKS0_"},
			stack.Name{Full: push + " (shop)", Short: "std::vector<...>::push_back (shop)", Module: "shop"},
		},
		{
			"inlined into another",
			Line{
				Module: "shop", Function: "take", File: "/src/shop.cc", Line: 7,
				Outer: stack.Name{Full: push, Short: "std::vector<...>::push_back"},
			},
			stack.Name{Full: "take (shop.cc:7) in " + push, Short: "take (shop.cc:7) in std::vector<...>::push_back", Module: "shop"},
		},
		{
			"of Go",
			Line{Module: "shop", Function: "github.com/acme/shop/session.(*Store).Login", File: "/src/login.go", Line: 12, Go: true},
			stack.Name{Full: "github.com/acme/shop/session.(*Store).Login (login.go:12)", Short: "session.(*Store).Login (login.go:12)", Module: "shop"},
		},
		{
			"of a JIT compiler",
			Line{Module: "[jit]", Function: "LazyCompile:*grow<long> /srv/a.js:3"},
			stack.Name{Full: "LazyCompile:*grow<long> /srv/a.js:3 ([jit])", Short: "LazyCompile:*grow<long> /srv/a.js:3 ([jit])", Module: "[jit]"},
		},
		{
			"of a file that is called as a program likes",
			Line{Module: "a<long>/b", Function: "a<long>/b+0x10", Unnamed: true, Go: true},
			stack.Name{Full: "a<long>/b+0x10", Short: "a<long>/b+0x10", Module: "a<long>/b"},
		},
	} {
		if d := cmp.Diff(c.want, c.line.Name()); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// Two functions that would be called the same are told apart: the second keeps its full
// name, however often it is asked for.
func TestNoTwoPlacesHaveOneNameForPeople(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	line := func(function, file string) *Line {
		return &Line{Module: "shop", Function: function, Linkage: "_Z", File: file, Line: 7}
	}
	for range 2 {
		for _, c := range []struct{ function, file, want string }{
			{"Cache<Order>::put", "cache.h", "Cache<...>::put (cache.h:7)"},
			{"Cache<Session>::put", "cache.h", "Cache<Session>::put (cache.h:7)"},
			{"Cache<Session>::put", "session.h", "Cache<...>::put (session.h:7)"}, // the file tells
		} {
			if got := s.name(line(c.function, c.file)).Short; got != c.want {
				t.Errorf("%s of %s is %q, want %q", c.function, c.file, got, c.want)
			}
		}
	}
}
