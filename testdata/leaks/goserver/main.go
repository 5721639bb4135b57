// Goserver is a Go server with one leak, or none.
//
//	goserver sessions|none SECONDS BYTES_PER_SECOND
//
// Login keeps a session in a map that nobody ever takes one out of, or, with none, only
// while there are no more than 5,000. The innocents allocate a hundred times as much: render
// makes JSON, which is garbage when it is done, and cachePut replaces the oldest of 500
// entries. It prints "ready" when it begins, and exits after so many seconds.
//
// As most servers do, it has the handlers of net/http/pprof: so it keeps a profile of its
// heap, if nobody ever asks for that.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	_ "net/http/pprof" // for the profile, see above
	"os"
	"strconv"
	"time"
)

const (
	times = 100  // as much is allocated as is kept
	ticks = 200  // a second
	most  = 5000 // sessions that are kept without a leak
)

// session is what is kept of a login.
type session struct {
	user string
	data [1200]byte
}

// page is what is rendered.
type page struct {
	Title string            `json:"title"`
	Items []item            `json:"items"`
	Meta  map[string]string `json:"meta"`
}

type item struct {
	Name  string `json:"name"`
	Price int    `json:"price"`
}

var (
	sessions = make(map[int]*session)
	cache    [500][]byte
)

//go:noinline
func login(n int, leak bool) int {
	s := &session{user: strconv.Itoa(n)}
	for i := range s.data {
		s.data[i] = byte(n + i)
	}
	sessions[n] = s
	if !leak {
		delete(sessions, n-most)
	}
	return len(s.data) + 80
}

//go:noinline
func render(n int) (int, error) {
	p := page{Title: "page " + strconv.Itoa(n), Meta: map[string]string{"n": strconv.Itoa(n)}}
	for i := range 40 {
		p.Items = append(p.Items, item{Name: "item " + strconv.Itoa(n+i), Price: n * i})
	}
	text, err := json.Marshal(p)
	return 3*len(text) + 40*64, err
}

//go:noinline
func cachePut(n int) int {
	entry := make([]byte, 100+n*53%400)
	for i := range entry {
		entry[i] = 'c'
	}
	cache[n%len(cache)] = entry
	return len(entry)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "goserver:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(args []string) error {
	if len(args) != 3 || args[0] != "sessions" && args[0] != "none" {
		return errors.New("usage: goserver sessions|none SECONDS BYTES_PER_SECOND")
	}
	leak := args[0] == "sessions"
	seconds, err1 := strconv.ParseFloat(args[1], 64)
	rate, err2 := strconv.ParseFloat(args[2], 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		return err
	}
	began := time.Now()
	for kept, churned, requests, made := 0, 0, 0, 0; ; time.Sleep(time.Second / ticks) {
		t := time.Since(began).Seconds()
		if t >= seconds {
			return nil
		}
		// A busy machine makes it late: then it serves fewer, and keeps as much.
		for most := churned + int(times*rate/ticks); churned < most; requests++ {
			n, err := render(requests)
			if err != nil {
				return err
			}
			churned += n
			if requests%8 == 0 {
				churned += cachePut(requests / 8)
			}
			if kept < int(t*rate) {
				kept += login(made, leak)
				made++
			}
		}
		for ; kept < int(t*rate); made++ {
			kept += login(made, leak)
		}
	}
}
