//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redis is a redis server under load: a client overwrites 100,000 keys as fast as it can,
// and every millisecond a new key comes, so that the heap grows.
type redis struct {
	*child
	client *child
	info   *redisConn
	over   chan struct{}
}

// redisConn is a connection to a server.
type redisConn struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(socket string) (*redisConn, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &redisConn{c, bufio.NewReader(c)}, nil
}

// do sends a command and returns the reply: a line, or a bulk string.
func (c *redisConn) do(args ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return "", err
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "$") {
		return line, nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 {
		return "", fmt.Errorf("reply of redis: %q", line)
	}
	const end = len("\r\n")
	text := make([]byte, n+end)
	_, err = io.ReadFull(c.in, text)
	return string(text[:n]), err
}

// progress is how many commands the server has done so far.
func (r *redis) progress() (float64, error) {
	if err := r.client.alive(); err != nil {
		return 0, err
	}
	text, err := r.info.do("INFO", "stats")
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(text, "total_commands_processed:")
	number, _, _ := strings.Cut(after, "\r")
	if !ok {
		return 0, errors.New("redis does not say how much it has done")
	}
	return strconv.ParseFloat(number, 64)
}

func (r *redis) end() {
	close(r.over)
	if r.info != nil {
		r.info.Close()
	}
	if r.client != nil {
		r.client.kill()
	}
	r.kill()
}

// startRedis starts a server, with before in front of its command line, and its load.
func (b *bench) startRedis(ctx context.Context, before ...string) (_ running, err error) {
	socket := b.file("redis")
	r := &redis{over: make(chan struct{})}
	r.child, err = start(append(before, "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", b.dir)...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.end()
		}
	}()
	var more *redisConn
	err = await(ctx, "start of redis", 20*time.Second, 10*time.Millisecond, func() (bool, error) {
		var e error
		more, e = dialRedis(socket) // until it listens
		return e == nil, r.alive()
	})
	if err != nil {
		return nil, err
	}
	go r.grow(more)
	if r.info, err = dialRedis(socket); err != nil {
		return nil, err
	}
	r.client, err = start("redis-benchmark", "-s", socket, "-t", "set", "-r", "100000", "-d", "100", "-c", "20", "-n", "2000000000", "-q")
	if err != nil {
		return nil, err
	}
	// All keys are there before anything is measured.
	err = await(ctx, "load of redis", time.Minute, 50*time.Millisecond, func() (bool, error) {
		n, e := r.progress()
		return n > 500_000, e
	})
	return r, err
}

// grow adds new keys.
func (r *redis) grow(c *redisConn) {
	defer c.Close()
	value := strings.Repeat("v", 500)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-r.over:
			return
		case <-tick.C:
		}
		if _, err := c.do("SET", fmt.Sprint("kept:", n), value); err != nil {
			return // it has ended
		}
	}
}

// findRedis returns the file of the server. An error says what is not installed.
func findRedis() (string, error) {
	bin, err := exec.LookPath("redis-server")
	_, clientErr := exec.LookPath("redis-benchmark")
	if err = errors.Join(err, clientErr); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(bin)
}
