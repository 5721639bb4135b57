//go:build unlinked
// +build unlinked

package main

func write(string, int) {}

func publish() {}
