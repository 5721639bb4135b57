package symbol

import (
	"bytes"
	"io"

	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// begin locks the module for something that is paid for.
func (m *Module) begin() {
	m.mu.Lock()
	m.op = m.opts.Account.Start()
}

// end is called after begin. It lets the cache make room, for something may have been
// loaded.
func (m *Module) end() {
	m.op.End()
	m.mu.Unlock()
	if m.cache != nil {
		m.cache.settle(m)
	}
}

// take pays for bytes before they are read. Within begin and end.
func (m *Module) take(bytes int64) error { return m.pay(m.op.Take(bytes)) }

// unpack is take for what is then held in memory.
func (m *Module) unpack(bytes int64) error {
	err := m.take(bytes)
	if err == nil && bytes > 0 && m.cache != nil {
		m.cache.expect(m, bytes)
	}
	return err
}

// steps pays for the time that a loop takes, and reports whether it may go on.
func (m *Module) steps(n int) bool { return m.pay(m.op.Steps(n)) == nil }

func (m *Module) pay(err error) error {
	if err != nil {
		why := err // err itself would be allocated each time
		m.spent.Store(&why)
	}
	return err
}

// sortPaid sorts, as one of package slices does, at the expense of the module's account,
// and reports whether that has paid for all of it. Otherwise the order is any.
func sortPaid[T any](m *Module, sort func(s []T, order func(a, b T) int), s []T, order func(a, b T) int) bool {
	paid := true
	sort(s, func(a, b T) int {
		if paid = paid && m.steps(1); !paid {
			return 0 // so that there is little left to do
		}
		return order(a, b)
	})
	return paid
}

// paid is a file, or a part of one in memory, that is read at the expense of the module's
// account, within begin and end. What is in memory was paid for: only the time counts.
type paid struct {
	r      io.ReaderAt
	of     *Module
	memory bool
}

func (p *paid) ReadAt(b []byte, off int64) (int, error) {
	if p.memory {
		if !p.of.steps(1) {
			return 0, quota.ErrSpent
		}
	} else if err := p.of.take(int64(len(b))); err != nil {
		return 0, err
	}
	return p.r.ReadAt(b, off)
}

// inMemory is a reader of bytes that were paid for.
func (m *Module) inMemory(b []byte) io.ReaderAt {
	return &paid{r: bytes.NewReader(b), of: m, memory: true}
}

// Spent says why something of the file was not read that nobody paid for; nil as long as
// there is nothing. It matches [quota.ErrSpent]. It is not tried again at the expense of
// who could not pay.
func (m *Module) Spent() error {
	if err := m.spent.Load(); err != nil {
		return *err
	}
	return nil
}

// Charge says who else has mapped the file, and so wants to know names. If the account
// which pays now could not go on, and this one has ample, it pays from now on. Then what
// was not read is tried again.
func (m *Module) Charge(a *quota.Account) {
	if m.Spent() == nil || !a.Ample() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opts.Account = a
	m.drop()
	m.spent.Store(nil)
}
