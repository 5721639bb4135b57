//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
)

// session is maptrace at work in this process, on a process that runs.
type session struct {
	live   *tracer.Live
	tr     *tracer.Tracer
	cancel context.CancelFunc
	done   chan error
	opened time.Time // when it was loaded and attached
}

// traceHere attaches to a process and returns when everything is attached and
// its mappings have been read.
func traceHere(ctx context.Context, pid int) (_ *session, err error) {
	s := &session{done: make(chan error, 1)}
	if s.live, err = tracer.OpenLive(tracer.LiveOptions{}); err != nil {
		return nil, err
	}
	s.opened = time.Now()
	tasks, err := s.live.Trace(pid)
	if err == nil && len(tasks) != 1 {
		err = fmt.Errorf("process %d: %w", pid, procmaps.ErrGone)
	}
	if err != nil {
		return nil, errors.Join(err, s.live.Close())
	}
	begun := make(chan struct{})
	s.tr = newTracer(s.live, func(c *tracer.Change) {
		if c.Kind == tracer.KindBegin {
			close(begun)
		}
	})
	ctx, s.cancel = context.WithCancel(ctx)
	if err = s.tr.Add(tasks, false); err != nil {
		s.cancel()
		return nil, errors.Join(err, s.live.Close())
	}
	go func() { s.done <- s.tr.Run(ctx, s.live.Detach) }()
	select {
	case <-begun:
		return s, nil
	case <-time.After(10 * time.Second):
		err = errors.New("the mappings were not read within 10 s")
	case err = <-s.done:
		s.done <- err // for stop
		if err == nil {
			err = errors.New("the tracer ended at once")
		}
	}
	_, stopErr := s.stop()
	return nil, errors.Join(err, stopErr)
}

// newTracer is a tracer as the command makes one.
func newTracer(live *tracer.Live, onChange func(*tracer.Change)) *tracer.Tracer {
	opts := tracer.Options{OnChange: onChange, PageSize: uint64(os.Getpagesize())}
	opts.Gate = live.Info().Gate
	return tracer.New(live, live, opts)
}

// stop detaches, frees everything, and returns what was seen.
func (s *session) stop() (tracer.Report, error) {
	s.cancel()
	err := <-s.done
	r := s.tr.Report()
	return r, errors.Join(err, s.live.Close())
}
