package render

import (
	"strconv"
	"time"

	"github.com/maptrace/maptrace/procmaps/table"
)

// AppendJSON appends the line that encoding Object through [table.JSONWriter] would
// give. It is written by hand because a busy program makes 300,000 changes a
// second, and whoever prints them takes the processor from it.
func (e *Event) AppendJSON(dst []byte, clock Clock) []byte {
	dst = append(dst, `{"event":`...)
	dst = table.AppendJSONString(dst, e.Op)
	dst = append(dst, `,"time":"`...)
	dst = clock.Time(e.Time).AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = appendNumber(dst, `,"pid":`, uint64(e.PID))
	dst = appendNumber(dst, `,"ns_pid":`, uint64(e.NSPID))
	dst = appendNumber(dst, `,"tid":`, uint64(e.TID))
	dst = appendNumber(dst, `,"space":`, e.Space)
	if !e.Range.Empty() {
		dst = appendHex(append(dst, `,"address":`...), e.Range.Start)
	}
	dst = appendNumber(dst, `,"size":`, e.Range.Len())
	if e.Delta != 0 {
		dst = strconv.AppendInt(append(dst, `,"delta":`...), e.Delta, 10)
	}
	if e.Mapped {
		dst = appendText(dst, `,"mode":`, e.Now.Mode.String())
		dst = appendText(dst, `,"kind":`, e.Now.Kind.String())
		dst = appendText(dst, `,"mapping":`, e.Now.Name)
	}
	if !e.From.Empty() {
		dst = appendHex(append(dst, `,"from":`...), e.From.Start)
		dst = appendNumber(dst, `,"from_size":`, e.From.Len())
	}
	for i := range e.Displaced {
		d := &e.Displaced[i]
		if i == 0 {
			dst = append(dst, `,"displaced":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = table.AppendJSONString(append(dst, `{"how":`...), d.How.String())
		dst = appendHex(append(dst, `,"address":`...), d.Start)
		dst = strconv.AppendUint(append(dst, `,"size":`...), d.Len(), 10)
		dst = table.AppendJSONString(append(dst, `,"mode":`...), d.Mode.String())
		dst = table.AppendJSONString(append(dst, `,"kind":`...), d.Kind.String())
		dst = appendText(dst, `,"mapping":`, d.Name)
		if d.Partial {
			dst = append(dst, `,"split":true`...)
		}
		dst = append(dst, '}')
	}
	if len(e.Displaced) > 0 {
		dst = append(dst, ']')
	}
	if e.Errno != 0 {
		dst = appendText(dst, `,"errno":`, errnoName(e.Errno))
	}
	if e.Suppressed {
		dst = appendHex(append(dst, `,"suppressed":true,"result":`...), uint64(e.Result))
	}
	dst = appendNumber(dst, `,"child":`, uint64(e.Child))
	dst = appendText(dst, `,"comm":`, e.Comm)
	dst = appendNumber(dst, `,"lost":`, e.Lost)
	switch {
	case e.Ended && e.Signal != 0:
		dst = appendNumber(dst, `,"signal":`, uint64(e.Signal))
	case e.Ended:
		dst = strconv.AppendInt(append(dst, `,"status":`...), int64(e.Status), 10)
	}
	dst = appendText(dst, `,"detail":`, e.Detail)
	if e.Late {
		dst = append(dst, `,"late":true`...)
	}
	if e.Polled {
		dst = append(dst, `,"seen_by":"polling"`...)
	}
	for i, frame := range e.Stack {
		if i == 0 {
			dst = append(dst, `,"stack":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = table.AppendJSONString(dst, frame)
	}
	if len(e.Stack) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}', '\n')
}

// appendNumber appends a member, and nothing for zero.
func appendNumber(dst []byte, key string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, key...), v, 10)
}

// appendText appends a member, and nothing for no text.
func appendText(dst []byte, key, s string) []byte {
	if s == "" {
		return dst
	}
	return table.AppendJSONString(append(dst, key...), s)
}

func appendHex(dst []byte, v uint64) []byte {
	dst = strconv.AppendUint(append(dst, `"0x`...), v, 16)
	return append(dst, '"')
}
