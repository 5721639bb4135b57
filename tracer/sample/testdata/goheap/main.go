// Goheap is a Go program whose heap is known, and which writes the profile of it.
//
//	goheap none|once|often|busy RATE DEPTH
//
// It allocates, with MemProfileRate at RATE, from stacks as deep as DEPTH: without a garbage
// collection, with two at the end, or with as many as come by themselves before. It
// prints "ready" and waits for a line, busy with more of the same or not, writes the
// profile to the files "proto" and "text", prints "written", and waits for the end of its
// input.
//
// It builds with Go 1.9 and later.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
)

var (
	kept  [][]byte
	lists []*list
	table = map[int]string{}
	waste []byte
)

type list struct {
	next *list
	pad  [5]int
}

//go:noinline
func keep(n int) { kept = append(kept, make([]byte, n)) }

// Inlined into who calls it.
func prepend(l *list) *list { return &list{next: l} }

func deep(n, bytes int) {
	if n == 0 {
		keep(bytes)
		return
	}
	deep(n-1, bytes)
}

//go:noinline
func work(depth int) {
	for i := 0; i < 2000; i++ {
		keep(1 << uint(i%16))
		deep(i%depth, 5000)
		waste = make([]byte, 8<<10+i)
		lists = append(lists, prepend(prepend(nil)))
		table[i] = strconv.Itoa(i)
	}
	keep(20 << 20)
	kept = append(kept[:100:100], kept[1000:]...)
}

func main() {
	rate, _ := strconv.Atoi(os.Args[2])
	depth, _ := strconv.Atoi(os.Args[3])
	runtime.MemProfileRate = rate
	input := bufio.NewReader(os.Stdin)
	if os.Args[1] == "none" || os.Args[1] == "once" {
		debug.SetGCPercent(-1)
	}
	done := make(chan bool)
	go func() { work(depth); done <- true }()
	<-done
	work(depth)
	if os.Args[1] == "once" {
		runtime.GC()
		runtime.GC()
	}
	stop := make(chan bool)
	if os.Args[1] == "busy" {
		go func() {
			for {
				select {
				case <-stop:
					done <- true
					return
				default:
					kept, lists = nil, nil
					work(depth)
				}
			}
		}()
	} else if os.Args[1] != "none" {
		debug.SetGCPercent(-1)
		publish()
	}
	fmt.Println("ready")
	input.ReadString('\n')
	if os.Args[1] == "busy" {
		close(stop)
		<-done
		runtime.GC()
	}
	write("proto", 0)
	write("text", 1)
	fmt.Println("written")
	input.ReadString('\n')
}
