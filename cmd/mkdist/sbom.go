package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
)

// bom is a bill of materials of CycloneDX 1.6, as far as it is used here.
//
// It is not made by cyclonedx-gomod, whose bytes depend on more than the commit and the
// Go version (v1.10.0): it lists the hashes of its own binary, which differ with the
// machine and the directory it is built in, and has no flag against that. From the
// source ("app") it also refuses a linked git worktree, and from the binary ("bin") it
// does not know which modules use which. It takes golang.org/x/sys to be under
// BSD-Source-Code, and finds no licence of Go itself.
type bom struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     bomMetadata  `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type bomMetadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string         `json:"type"`
	Ref        string         `json:"bom-ref"`
	Name       string         `json:"name"`
	Version    string         `json:"version"`
	Hashes     []hash         `json:"hashes,omitempty"`
	Licences   []licenceEntry `json:"licenses"`
	PURL       string         `json:"purl"`
	Properties []property     `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type licenceEntry struct {
	Licence struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// billOfMaterials lists the modules that the binary says are linked into it, and
// what uses what.
func billOfMaterials(bd *build, binary []byte, version string, at time.Time) ([]byte, error) {
	modules, err := linked(bd.info)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(binary)
	main := bd.info.Main.Path
	self, err := newComponent("application", main, "v"+version, "?goarch="+bd.arch+"&goos=linux")
	if err != nil {
		return nil, err
	}
	self.Name = "maptrace"
	self.Version = version
	self.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	for _, key := range []string{"vcs.revision", "vcs.modified", "GOARCH", "GOOS", "CGO_ENABLED"} {
		self.Properties = append(self.Properties, property{"maptrace:build:" + key, setting(bd.info, key)})
	}
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6",
		Serial: serial(sum), Version: 1,
		Metadata: bomMetadata{at.Format(time.RFC3339), self},
	}
	refs := map[string]string{main: self.Ref}
	order := []string{main}
	for _, m := range modules {
		c, unknown := moduleComponent(m)
		if unknown != nil {
			return nil, unknown
		}
		b.Components = append(b.Components, c)
		refs[m.Path] = c.Ref
		order = append(order, m.Path)
	}
	if len(bd.uses) != len(order) {
		return nil, fmt.Errorf("modules: the binary has %d, the packages it is built from are of %d", len(order), len(bd.uses))
	}
	for _, path := range order {
		d := dependency{refs[path], []string{}}
		for _, other := range bd.uses[path] {
			ref, ok := refs[other]
			if !ok {
				return nil, fmt.Errorf("module %s: the binary does not have it", other)
			}
			d.DependsOn = append(d.DependsOn, ref)
		}
		b.Dependencies = append(b.Dependencies, d)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err = e.Encode(b)
	return text.Bytes(), err
}

// newComponent describes a module.
func newComponent(kind, module, version, qualifiers string) (c component, err error) {
	id, err := licence(module)
	if err != nil {
		return c, err
	}
	purl := "pkg:golang/" + strings.ToLower(module) + "@" + url.PathEscape(version) + qualifiers
	c = component{Type: kind, Ref: purl, Name: module, Version: version, PURL: purl}
	c.Licences = make([]licenceEntry, 1)
	c.Licences[0].Licence.ID = id
	return c, nil
}

// moduleComponent describes a linked module. Go itself has no checksum.
func moduleComponent(m debug.Module) (component, error) {
	c, err := newComponent("library", m.Path, m.Version, "")
	if err == nil && m.Path != std {
		err = c.addSum(m.Sum)
	}
	return c, err
}

// addSum adds a checksum of go.sum: the SHA-256 of a list of the module's files and
// their SHA-256, in base64 (golang.org/x/mod/sumdb/dirhash.Hash1). It is put where
// other generators for Go put it, in hexadecimal, and as it is in go.sum.
func (c *component) addSum(sum string) error {
	text, ok := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("module %s: checksum %q is none of go.sum", c.Name, sum)
	}
	c.Hashes = []hash{{"SHA-256", hex.EncodeToString(raw)}}
	c.Properties = append(c.Properties, property{"maptrace:go.sum", sum})
	return nil
}

// serial makes a UUID (version 8) of the binary, since a random one would differ
// from build to build.
func serial(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
