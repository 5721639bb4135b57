package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// rcTemplate is the file that pmap -n writes, byte for byte.
const rcTemplate = `# pmap's Config File

# All the entries are case sensitive.
# Unsupported entries are ignored!

[Fields Display]

# To enable a field uncomment its entry

#Perm
#Offset
#Device
#Inode
#Size
#Rss
#Pss
#Shared_Clean
#Shared_Dirty
#Private_Clean
#Private_Dirty
#Referenced
#Anonymous
#AnonHugePages
#Swap
#KernelPageSize
#MMUPageSize
#Locked
#VmFlags
#Mapping


[Mapping]

# to show paths in the mapping column uncomment the following line
#ShowPath

`

// rcConfig is what a pmap rc file asks for.
type rcConfig struct {
	fields map[string]bool
	// togglePath is set when ShowPath is there an odd number of times.
	togglePath bool
}

// errRCExists says that pmap -n would overwrite something.
var errRCExists = errors.New("the file already exists - delete or rename it first")

// parseRC reads a pmap rc file as procps' config_read() does: warn is told of
// what is wrong, and the rest counts. The error is the reader's.
func parseRC(r io.Reader, warn func(msg string)) (*rcConfig, error) {
	const longest = 1024 // bytes of a line, its newline included
	p := rcParser{rc: &rcConfig{fields: map[string]bool{}}}
	br := bufio.NewReaderSize(r, longest)
	for n := 1; ; n++ {
		p.problem = func(what string) { warn(fmt.Sprintf("%s - line %d", what, n)) }
		line, err := br.ReadSlice('\n')
		if len(line) == longest && line[longest-1] != '\n' {
			p.problem("config line too long")
		}
		p.line(string(line)) // as much of it as fits
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return p.rc, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// rcSection is a part of an rc file.
type rcSection uint8

const (
	rcNoSection rcSection = iota
	rcFields
	rcMapping
	rcOther // nobody knows it, and what is in it is passed over
)

type rcParser struct {
	rc      *rcConfig
	section rcSection
	problem func(what string) // tells of the line being read
}

func (p *rcParser) line(text string) {
	const syntaxError = "syntax error found in the config"
	text, _, _ = strings.Cut(strings.TrimSuffix(text, "\n"), "\x00")
	text = strings.TrimLeft(text, " \t")
	header := strings.HasPrefix(text, "[")
	if header {
		name, rest, closed := strings.Cut(text[1:], "]")
		if !closed {
			p.problem(syntaxError)
			return
		}
		switch name {
		case "Fields Display":
			p.section = rcFields
		case "Mapping":
			p.section = rcMapping
		default:
			p.problem("unsupported section found in the config")
			p.section = rcOther
		}
		text = rest
	}
	word, rest := rcWord(text)
	if word == "" {
		return
	}
	if more, _ := rcWord(rest); more != "" || header || p.section == rcNoSection {
		p.problem(syntaxError)
	}
	switch {
	case p.section == rcFields:
		p.rc.fields[word] = true
	case p.section == rcMapping && word == "ShowPath":
		p.rc.togglePath = !p.rc.togglePath
	}
}

// rcWord cuts the next word off. A word that begins with '#' begins a comment;
// inside a word the character means nothing.
func rcWord(text string) (word, rest string) {
	text = strings.TrimLeft(text, " \t")
	if strings.HasPrefix(text, "#") {
		return "", ""
	}
	if end := strings.IndexAny(text, " \t"); end >= 0 {
		return text[:end], text[end:]
	}
	return text, ""
}

// createRC writes the template to a file that must not be there yet.
func createRC(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return errRCExists
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(rcTemplate)
	return err
}
