#!/bin/sh
# needs: go
cat >main.go <<'G'
package main

import (
	"sync"
	"time"
)

var (
	mu    sync.Mutex
	cache = map[int][]byte{}
)

func main() {
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				b := make([]byte, 1000+i%50000)
				mu.Lock()
				cache[(i*7+w)%3000] = b
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	select {}
}
G
go build -o churn main.go && exec ./churn
