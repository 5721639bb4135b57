package event

import "strings"

// Numberless has a star in place of each number: programs number what they make.
func Numberless(name string) string {
	if !strings.ContainsAny(name, "0123456789") {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		switch {
		case name[i] < '0' || name[i] > '9':
			b.WriteByte(name[i])
		case i == 0 || name[i-1] < '0' || name[i-1] > '9':
			b.WriteByte('*')
		}
	}
	return b.String()
}
