package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

var (
	// programs are what the archives hold.
	programs = []string{"aci-sync", "apic-sim"}
	// documents go along with the programs.
	documents = []string{"LICENSE", "README.md", "CHANGELOG.md"}
)

// writeDist makes everything of a version in dir, in place of what was there.
func (s *source) writeDist(ctx context.Context, dir string, snapshot bool, stdout io.Writer) error {
	if !snapshot {
		if err := s.releasable(ctx); err != nil {
			return err
		}
		s.release = true
	}
	// Made beside, so that a dist that is there is whole.
	tmp := dir + ".tmp"
	for _, d := range []string{tmp, dir} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, p := range s.archives {
		if err := s.writeArchive(ctx, tmp, p); err != nil {
			return err
		}
	}
	if err := s.writeChart(ctx, tmp); err != nil {
		return err
	}
	digest, err := s.writeImage(ctx, filepath.Join(tmp, "aci-sync_"+s.tag()+"_image.tar"))
	if err != nil {
		return err
	}
	sums, err := checksums(tmp)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "SHA256SUMS"), sums, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%saci-sync %s in %s\n%s@%s\n", sums, s.version(), dir, s.reference(), digest)
	return nil
}

// writeArchive builds the programs for p and packs them, and tells of what aci-sync is made where the image has it.
func (s *source) writeArchive(ctx context.Context, dir string, p platform) error {
	name := "aci-sync_" + s.tag() + "_" + p.os + "_" + p.arch
	bin, err := os.MkdirTemp("", "aci-sync-bin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	var files []file
	add := func(from, as string, mode int64) error {
		data, err := os.ReadFile(from)
		files = append(files, file{name + "/" + as, mode, data})
		return err
	}
	for _, d := range documents {
		if err := add(s.path(d), d, 0o644); err != nil {
			return err
		}
	}
	for _, program := range programs {
		to := filepath.Join(bin, program)
		if err := s.build(ctx, program, p, to); err != nil {
			return err
		}
		if err := add(to, program, 0o755); err != nil {
			return err
		}
	}
	packed, err := targz(s.time, files)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".tar.gz"), packed, 0o644); err != nil {
		return err
	}
	if p.os != "linux" {
		return nil
	}
	_, err = s.tool(ctx, "sbom", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", "v"+s.version(),
		"-output", filepath.Join(dir, name+".cdx.json"), filepath.Join(bin, "aci-sync"))
	return err
}

// writeChart packs the chart and renders install.yaml from what was packed.
func (s *source) writeChart(ctx context.Context, dir string) error {
	tmp, err := os.MkdirTemp("", "aci-sync-chart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// The appVersion is the tag of the image, and so has no +.
	if _, err := s.tool(ctx, "helm", "helm", "package", "charts/aci-sync", "--destination", tmp,
		"--version", s.version(), "--app-version", s.tag()); err != nil {
		return err
	}
	name := "aci-sync-" + s.version() + ".tgz"
	packed, err := os.ReadFile(filepath.Join(tmp, name))
	if err != nil {
		return err
	}
	// Helm notes the time of packing, so it is packed again.
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	files, err := readTar(z)
	if err != nil {
		return err
	}
	if packed, err = targz(s.time, files); err != nil {
		return err
	}
	chart := filepath.Join(dir, "aci-sync-"+s.tag()+".tgz")
	if err := os.WriteFile(chart, packed, 0o644); err != nil {
		return err
	}
	// Helm would take its own idea of Kubernetes; what is rendered must work with the oldest.
	manifests, err := s.tool(ctx, "helm", "helm", "template", "aci-sync", chart, "--namespace", "aci-sync", "--include-crds",
		"--kube-version", s.kube)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "install.yaml"), manifests, 0o644)
}

// checksums are the SHA-256 sums of what is in dir, as sha256sum prints and checks them.
func checksums(dir string) ([]byte, error) {
	files, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(f.data), f.name)
	}
	return out.Bytes(), nil
}
