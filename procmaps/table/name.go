package table

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/maptrace/maptrace/procmaps"
)

// pmapName is the name in the tables with fixed widths. The first rule that fits
// wins. Rules look for characters in the line of maps, all of which can only be
// in its name.
func (p *Printer) pmapName(m *procmaps.Mapping) string {
	// A name the kernel made up is not a path, whatever a program made it say.
	bracketed := strings.HasPrefix(m.Name, "[")
	switch {
	case p.proc.ShmDevice != procmaps.Device{} && m.Dev == p.proc.ShmDevice && strings.Contains(m.Name, "/SYSV"):
		return fmt.Sprintf("  [ shmid=0x%x ]", m.Inode)
	case !bracketed && strings.IndexByte(m.Name, '/') >= 0:
		return p.cleanName(p.path(m.Name))
	case p.opt.KernelNames && strings.HasSuffix(m.Name, "]") && strings.Contains(m.Name, "["):
		return p.cleanName(m.Name[strings.IndexByte(m.Name, '['):])
	// The end is included, as in pmap.
	case m.Start <= p.proc.StartStack && p.proc.StartStack <= m.End:
		return "  [ stack ]"
	}
	return "  " + procmaps.AnonName
}

// path cuts a name with a slash to the part to show.
func (p *Printer) path(name string) string {
	if p.opt.ShowPath {
		return name[strings.IndexByte(name, '/'):]
	}
	if last := strings.LastIndexByte(name, '/'); last < len(name)-1 {
		return name[last+1:]
	}
	return "/"
}

func (p *Printer) cleanName(s string) string {
	switch {
	case p.opt.Escape:
		return Escape(s)
	case p.opt.Compat == Compat402:
		return replaceBad(s, func(s string) (int, byte) {
			if isASCII(s[0]) {
				return 1, 0
			}
			return 1, '?'
		})
	case p.opt.CLocale:
		return replaceBad(s, func(s string) (int, byte) {
			if s[0] < utf8.RuneSelf {
				return 1, 0
			}
			return 1, '?'
		})
	}
	return replaceBad(s, func(s string) (int, byte) {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			return n, '?'
		}
		return n, 0
	})
}

// cleanCommand replaces characters as library/escape.c of procps does.
func (p *Printer) cleanCommand(s string) string {
	switch {
	case p.opt.Escape:
		return Escape(s)
	case s == "" && p.opt.Compat == Compat402:
		return "?"
	case s == "":
		return "-"
	case p.opt.Compat == Compat402:
		return replaceBad(s, oldEscape(p.opt.CLocale))
	case p.opt.CLocale:
		return replaceBad(s, func(s string) (int, byte) {
			if isASCII(s[0]) {
				return 1, 0
			}
			return 1, '?'
		})
	}
	return replaceBad(s, func(s string) (int, byte) {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || unicode.Is(unicode.Co, r) || unicode.IsControl(r) {
			return 1, '?' // one for each byte: the rest of it is no character
		}
		return n, 0
	})
}

// oldEscape judges the characters of a command line as procps 4.0.2 does, one
// after the other. In a UTF-8 locale it looks at first bytes only, and from the
// first one that cannot be one it takes everything for the C locale's.
func oldEscape(cLocale bool) func(string) (int, byte) {
	return func(s string) (int, byte) {
		c := s[0]
		n := 1
		if !cLocale && c >= utf8.RuneSelf {
			switch {
			case 0xc2 <= c && c <= 0xdf:
				n = 2
			case 0xe0 <= c && c <= 0xef:
				n = 3
			case 0xf0 <= c && c <= 0xf4:
				n = 4
			}
			cLocale = n == 1 || n > len(s)
		}
		switch {
		case isASCII(c):
			return 1, 0
		case !cLocale && c >= utf8.RuneSelf:
			return n, 0
		case cLocale && c < utf8.RuneSelf:
			return 1, '.'
		}
		return 1, '?'
	}
}

func isASCII(c byte) bool { return ' ' <= c && c < 0x7f }

// replaceBad replaces characters. For the first character of a string, judge
// returns its length and what to put in its place, 0 for itself.
func replaceBad(s string, judge func(string) (n int, instead byte)) string {
	var out []byte // nil while all is good
	for i := 0; i < len(s); {
		n, instead := judge(s[i:])
		switch {
		case instead != 0:
			if out == nil {
				out = append(make([]byte, 0, len(s)), s[:i]...)
			}
			out = append(out, instead)
		case out != nil:
			out = append(out, s[i:i+n]...)
		}
		i += n
	}
	if out == nil {
		return s
	}
	return string(out)
}
