package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path"
	"time"
)

// tarball packs files below a directory called top, whose bytes are those of the
// arguments and nothing else.
func tarball(top string, files []file, at time.Time) ([]byte, error) {
	var packed bytes.Buffer
	t := tar.NewWriter(&packed)
	header := func(name string, kind byte, mode os.FileMode, size int) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Mode: int64(mode), Size: int64(size), ModTime: at, Format: tar.FormatUSTAR}
	}
	seen := map[string]bool{}
	var directory func(dir string) error
	directory = func(dir string) error {
		if dir == "." || seen[dir] {
			return nil
		}
		seen[dir] = true
		if err := directory(path.Dir(dir)); err != nil {
			return err
		}
		return t.WriteHeader(header(dir+"/", tar.TypeDir, 0o755, 0))
	}
	for _, f := range files {
		name := path.Join(top, f.path)
		if err := directory(path.Dir(name)); err != nil {
			return nil, err
		}
		if err := t.WriteHeader(header(name, tar.TypeReg, f.mode, len(f.data))); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return compress(packed.Bytes())
}

// compress is gzip -9n: no name, no time.
func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
