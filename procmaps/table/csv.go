package table

import "strings"

// AppendCSVHeader appends the line of the columns' keys (RFC 4180, but for the
// line's end, which is a newline alone).
func AppendCSVHeader[R any](dst []byte, columns []Column[R]) []byte {
	for i := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, columns[i].Key)
	}
	return append(dst, '\n')
}

// AppendCSV appends the line of a row. Text is escaped as by [Escape], so that a
// name cannot break the lines or steer a terminal; what is not known is empty.
func AppendCSV[R any](dst []byte, columns []Column[R], r R) []byte {
	for i := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		v := columns[i].Value(r)
		if v.kind == kindText {
			dst = appendField(dst, Escape(v.text))
		} else {
			dst = v.Append(dst)
		}
	}
	return append(dst, '\n')
}

func appendField(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, "\",\n\r") && s == strings.TrimSpace(s) {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}
