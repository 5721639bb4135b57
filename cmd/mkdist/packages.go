package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// maintainer is who packages say is to be asked.
const maintainer = "maptrace maintainers <maptrace@users.noreply.github.com>"

//go:embed nfpm.yaml.tmpl
var nfpmText string

var nfpmTemplate = template.Must(template.New("nfpm.yaml").Parse(nfpmText))

// packaged is what the description of a package is made from.
type packaged struct {
	Packager, Arch, Version, Maintainer, Time string
	Files                                     []packagedFile
}

// packagedFile is a file in a package; Type is nfpm's, empty for plain files.
type packagedFile struct {
	Source, Target, Type string
	Mode                 os.FileMode
}

// packages makes the .deb and the .rpm.
func (b *builder) packages(ctx context.Context, bd *build, files []file) error {
	version := packageVersion(b.version)
	for packager, target := range map[string]string{
		"deb": fmt.Sprintf("maptrace_%s_%s.deb", version, bd.arch),
		"rpm": fmt.Sprintf("maptrace-%s-1.%s.rpm", version, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[bd.arch]),
	} {
		list, err := layout(packager, files, b.version, b.epoch)
		if err != nil {
			return err
		}
		p := packaged{
			Packager: packager, Arch: bd.arch, Version: version, Maintainer: maintainer,
			Time: b.epoch.Format(time.RFC3339),
		}
		dir := filepath.Join(b.work, packager+"."+bd.arch)
		for _, f := range list {
			source := filepath.Join(dir, f.path)
			if err := writeFile(source, f.data, f.mode); err != nil {
				return err
			}
			kind := ""
			switch {
			case packager == "rpm" && strings.Contains(f.path, "/licenses/"):
				kind = "license"
			case packager == "rpm" && strings.Contains(f.path, "/doc/"):
				kind = "doc"
			}
			p.Files = append(p.Files, packagedFile{source, "/" + f.path, kind, f.mode})
		}
		var description bytes.Buffer
		if err := nfpmTemplate.Execute(&description, p); err != nil {
			return err
		}
		config := dir + ".yaml"
		if err := writeFile(config, description.Bytes(), 0o644); err != nil {
			return err
		}
		args := append(b.nfpm[1:len(b.nfpm):len(b.nfpm)], "package", "--config", config, "--packager", packager,
			"--target", filepath.Join(b.out, target))
		if _, err := output(ctx, append(os.Environ(), "GOFLAGS=", b.sourceDate()), b.nfpm[0], args...); err != nil {
			return fmt.Errorf("%s: %w", packager, err)
		}
	}
	return nil
}

// packageVersion is a version as dpkg and rpm compare them: what follows a hyphen in
// Go's comes before the release that it leads to.
func packageVersion(version string) string { return strings.ReplaceAll(version, "-", "~") }

// layout puts files where a kind of distribution wants them, and compresses what it
// wants compressed. Paths have no leading slash.
func layout(packager string, files []file, version string, at time.Time) (list []file, err error) {
	for _, f := range files {
		f.path = "usr/" + f.path
		switch dir, name := path.Split(f.path); {
		case strings.HasPrefix(f.path, "usr/share/man/"):
			f.path += ".gz"
			if f.data, err = compress(f.data); err != nil {
				return nil, err
			}
		case name == "LICENSE" && packager == "deb":
			continue // it is in the copyright file
		case name == "LICENSE" || name == "copyright" && packager == "rpm":
			f.path = "usr/share/licenses/maptrace/" + name
		case dir == "usr/share/zsh/site-functions/" && packager == "deb":
			f.path = "usr/share/zsh/vendor-completions/" + name
		}
		list = append(list, f)
	}
	if packager != "deb" {
		return list, nil
	}
	changes := fmt.Sprintf("maptrace (%s) unstable; urgency=medium\n\n  * Built from this version of the source.\n\n -- %s  %s\n",
		packageVersion(version), maintainer, at.Format(time.RFC1123Z))
	data, err := compress([]byte(changes))
	if err != nil {
		return nil, err
	}
	return append(list,
		file{"usr/share/doc/maptrace/changelog.gz", 0o644, data},
		file{"usr/share/lintian/overrides/maptrace", 0o644, []byte(lintianOverrides)},
	), nil
}

// lintianOverrides are what Debian's checker is not to complain of.
const lintianOverrides = `# One binary is to run on every distribution.
maptrace: statically-linked-binary [usr/bin/maptrace]
`
