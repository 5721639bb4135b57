package regular

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The two processes send each other messages: four bytes of a length, little-endian, and so
// many bytes of fields. A number is a varint, a text or a list begins with how many there
// are. No end trusts the other one: what is longer than it may be is refused, by who would
// send it as by who receives it.
//
// encoding/gob does more, of which nothing is needed here, and allocates 27 KB for it before
// main begins, in every run of every command.

const (
	// mostMessage is as many bytes as a message has.
	mostMessage = 8 << 20 // mostNames are longer only where somebody has made them so
	// mostText is as many as a path, a name or an error has.
	mostText = 64 << 10
)

// errWire says that what comes is no message, or that what is to be sent is too long for one.
var errWire = errors.New("not a message of the process that reads files")

// message is a request or a response.
type message interface {
	// fields goes through the fields in their one order, whether they are written or read.
	fields(w *wire)
}

// wire writes the fields of a message, or reads them. Where one is not as it may be, err is
// set, and all that are read after it are empty.
type wire struct {
	b       []byte // what was written, or is still to be read
	reading bool
	err     error
}

func (r *request) fields(w *wire) {
	number(w, &r.ID)
	number(w, &r.Op)
	number(w, &r.File)
	text(w, &r.Root, mostText)
	text(w, &r.Name, mostText)
	number(w, &r.Resolve)
	number(w, &r.Off)
	number(w, &r.Len)
	number(w, &r.PID)
	list(w, &r.Addrs, mostPieces, number)
}

func (r *response) fields(w *wire) {
	number(w, &r.ID)
	number(w, &r.File)
	fixed(w, &r.Stat)
	text(w, &r.Data, mostRead)
	list(w, &r.Gone, mostPieces, number)
	text(w, &r.Path, mostText)
	number(w, &r.Kind)
	list(w, &r.Names, mostNames, func(w *wire, name *string) { text(w, name, mostText) })
	number(w, &r.Failed)
	number(w, &r.Took)
	number(w, &r.Errno)
	text(w, &r.Message, mostText)
}

// send writes a message. Errors that match errWire are of the message, others of the
// connection.
func send(to io.Writer, m message) error {
	w := wire{b: make([]byte, 4)}
	m.fields(&w)
	size := len(w.b) - 4
	if w.err == nil && size > mostMessage {
		w.fail("%d bytes, at most %d", size, mostMessage)
	}
	if w.err != nil {
		return w.err
	}
	binary.LittleEndian.PutUint32(w.b, uint32(size))
	_, err := to.Write(w.b)
	return err
}

// receive reads a message. The error is io.EOF if there are no more.
func receive(from io.Reader, m message) error {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > mostMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", errWire, size, mostMessage)
	}
	w := wire{b: make([]byte, size), reading: true}
	if _, err := io.ReadFull(from, w.b); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	if m.fields(&w); w.err == nil && len(w.b) > 0 {
		w.fail("%d bytes after its fields", len(w.b))
	}
	return w.err
}

func (w *wire) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %s", errWire, fmt.Sprintf(format, args...))
	}
	if w.reading {
		w.b = nil
	}
}

func number[T ~uint8 | ~int | ~int64 | ~uint64 | ~uintptr](w *wire, v *T) {
	if !w.reading {
		w.b = binary.AppendUvarint(w.b, uint64(*v))
		return
	}
	n, size := binary.Uvarint(w.b)
	if size <= 0 || uint64(T(n)) != n {
		w.fail("no number of its size")
		return
	}
	*v, w.b = T(n), w.b[size:]
}

// count is that of the parts of a field: of which there are n, if it is written. Each part
// takes a byte at least.
func count(w *wire, n, most int) int {
	if number(w, &n); n < 0 || n > most || w.reading && n > len(w.b) {
		w.fail("%d parts of a field, at most %d", n, most)
		return 0
	}
	return n
}

// text is one. Bytes that are read are those of the message, not a copy.
func text[T ~string | ~[]byte](w *wire, v *T, most int) {
	n := count(w, len(*v), most)
	if !w.reading {
		w.b = append(w.b, (*v)[:n]...)
		return
	}
	*v, w.b = T(w.b[:n]), w.b[n:]
}

func list[T any](w *wire, v *[]T, most int, each func(*wire, *T)) {
	n := count(w, len(*v), most)
	if w.reading && n > 0 {
		*v = make([]T, n)
	}
	for i := range n {
		each(w, &(*v)[i])
	}
}

// fixed is a struct of fixed size. Both ends are of one program.
func fixed[T any](w *wire, v *T) {
	var err error
	if !w.reading {
		w.b, err = binary.Append(w.b, binary.NativeEndian, v)
	} else {
		var n int
		n, err = binary.Decode(w.b, binary.NativeEndian, v)
		w.b = w.b[n:]
	}
	if err != nil {
		w.fail("%v", err)
	}
}
