package regular

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sent is a message as it is sent.
func sent(tb testing.TB, m message) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := send(&b, m); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// full messages have all of their fields, each with another value.
var (
	fullRequest = request{
		ID: 1, Op: opList, File: 3, Root: "/proc/1/root", Name: "/größe\xff", Resolve: 1 << 63, Off: -1, Len: mostRead, PID: -5, Addrs: []uint64{0, 1<<64 - 1},
	}
	fullResponse = response{
		ID: 1 << 63, File: 2, Stat: unix.Stat_t{Ino: 3, Size: -4, Mtim: unix.Timespec{Sec: 5, Nsec: 6}}, Data: []byte("\x00data"), Gone: []int{7, 8}, Path: "/path", Kind: -9,
		Names: []string{"", "name", strings.Repeat("x", mostText)}, Took: 10, Failed: failedNot, Errno: syscall.ENOENT, Message: "message",
	}
)

func TestMessagesArriveAsTheyAreSent(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	requests, responses := []request{{}, fullRequest}, []response{{}, fullResponse}
	for i := range requests {
		b.Write(sent(t, &requests[i]))
		b.Write(sent(t, &responses[i]))
	}
	for i := range requests {
		var r request
		var a response
		if err := errors.Join(receive(&b, &r), receive(&b, &a)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(requests[i], r); d != "" {
			t.Errorf("a request (-sent +received):\n%s", d)
		}
		if a.Data = bytes.Clone(a.Data); len(a.Data) == 0 {
			a.Data = nil
		}
		if d := cmp.Diff(responses[i], a); d != "" {
			t.Errorf("a response (-sent +received):\n%s", d)
		}
	}
	if err := receive(&b, new(request)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", mostText+1)
	for name, m := range map[string]message{
		"a name":         &request{Name: long},
		"a root":         &request{Root: long},
		"addresses":      &request{Addrs: make([]uint64, mostPieces+1)},
		"an error":       &response{Message: long},
		"data":           &response{Data: make([]byte, mostRead+1)},
		"one name":       &response{Names: []string{long}},
		"names":          &response{Names: make([]string, mostNames+1)},
		"long names all": &response{Names: slices.Repeat([]string{long[1:]}, mostMessage/mostText)},
	} {
		var b bytes.Buffer
		if err := send(&b, m); !errors.Is(err, errWire) || b.Len() > 0 {
			t.Errorf("%s that is too long: %v, and %d bytes are sent", name, err, b.Len())
		}
	}
	good := sent(t, &fullRequest)
	framed := func(body []byte) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, b := range map[string][]byte{
		"a length that is too large":   binary.LittleEndian.AppendUint32(nil, mostMessage+1),
		"more than its fields":         framed(append(bytes.Clone(good[4:]), 0)),
		"less than its fields":         framed(good[4 : len(good)-1]),
		"nothing":                      framed(nil),
		"a number that is too large":   framed([]byte{1, 0x80, 0x02}),
		"more of a name than there is": framed([]byte{1, 1, 0, 5, 'x'}),
		"a name of less than nothing":  framed([]byte{1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),
		"a number that does not end":   framed(bytes.Repeat([]byte{0x80}, 20)),
	} {
		if err := receive(bytes.NewReader(b), new(request)); !errors.Is(err, errWire) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := 1; n < len(good); n++ {
		if err := receive(bytes.NewReader(good[:n]), new(request)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: %v", n, len(good), err)
		}
	}
}

// A name that is too long is the matter of who asks for it.
func TestOneNameThatIsTooLongEndsNothing(t *testing.T) {
	t.Parallel()
	c, _ := serveHere(t)
	if _, _, err := c.open("", "/"+strings.Repeat("x", mostText), 0); !errors.Is(err, errWire) {
		t.Errorf("a name that is too long: %v", err)
	}
	if _, _, err := c.open("", "/"+strings.Repeat("x", mostText-1), 0); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("one that is not for a message: %v", err)
	}
	if _, err := c.list(filepath.Dir(t.TempDir()), 1); err != nil {
		t.Error(err)
	}
}

func FuzzReceive(f *testing.F) {
	for _, m := range []message{&request{}, &fullRequest, &response{}, &response{Data: []byte("data"), Names: []string{"a", "b"}, Gone: []int{1}}} {
		f.Add(sent(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again := func(got, other message) {
			if err := receive(bytes.NewReader(b), got); err != nil {
				return
			}
			if err := receive(bytes.NewReader(sent(t, got)), other); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(got, other); d != "" {
				t.Errorf("-received +sent again:\n%s", d)
			}
		}
		again(new(request), new(request))
		again(new(response), new(response))
	})
}
