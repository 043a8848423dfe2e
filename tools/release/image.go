package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	repository = "ghcr.io/haystacknetworks/aci-sync" // where the image is published
	imageUser  = "65532:65532"                       // nobody's, as in distroless images
	entrypoint = "/aci-sync"
)

// reference is the name of the image.
func (s *source) reference() string { return repository + ":" + s.tag() }

// labels are those of the image, which are annotations of its manifests as well.
func (s *source) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "aci-sync",
		"org.opencontainers.image.description": "Keeps the external EPGs of a Cisco ACI fabric in step with what runs in a Kubernetes cluster",
		"org.opencontainers.image.source":      "https://" + module,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     s.version(),
		"org.opencontainers.image.revision":    s.commit,
		"org.opencontainers.image.created":     s.time.Format(time.RFC3339),
	}
}

// image builds aci-sync and makes the image of it for one architecture: one file, on nothing.
func (s *source) image(ctx context.Context, arch string) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "aci-sync-image")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "aci-sync")
	if err := s.build(ctx, "aci-sync", platform{"linux", arch}, binary); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	if err := writeTar(&files, s.time, []file{{"aci-sync", 0o755, program}}); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Created:      v1.Time{Time: s.time},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       imageUser,
			Entrypoint: []string{entrypoint},
			WorkingDir: "/",
			Labels:     s.labels(),
		},
	}); err != nil {
		return nil, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: s.time}, CreatedBy: "tools/release"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(img, s.labels()).(v1.Image), nil
}

// writeImage writes the image for all architectures to a tar archive in the OCI layout and returns its digest. It is read
// again and validated before it is there.
func (s *source) writeImage(ctx context.Context, to string) (v1.Hash, error) {
	var all v1.ImageIndex = empty.Index
	for _, arch := range s.images {
		img, err := s.image(ctx, arch)
		if err != nil {
			return v1.Hash{}, err
		}
		all = mutate.AppendManifests(all, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	all = mutate.Annotations(all, s.labels()).(v1.ImageIndex)
	digest, err := all.Digest()
	if err != nil {
		return v1.Hash{}, err
	}

	dir, err := os.MkdirTemp("", "aci-sync-layout")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := path.AppendIndex(all, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": s.tag(),       // for skopeo and podman
		"io.containerd.image.name":          s.reference(), // for ctr, nerdctl and docker
	})); err != nil {
		return v1.Hash{}, err
	}
	written, err := path.ImageIndex()
	if err != nil {
		return v1.Hash{}, err
	}
	if err := validate.Index(written); err != nil {
		return v1.Hash{}, fmt.Errorf("the image does not validate: %w", err)
	}
	files, err := readDir(dir)
	if err != nil {
		return v1.Hash{}, err
	}
	var archive bytes.Buffer
	if err := writeTar(&archive, s.time, files); err != nil {
		return v1.Hash{}, err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return v1.Hash{}, err
	}
	return digest, os.WriteFile(to, archive.Bytes(), 0o644)
}

// writeRootfs writes the files of the image for arch into a directory, where they can be run with chroot.
func (s *source) writeRootfs(ctx context.Context, dir, arch string) error {
	img, err := s.image(ctx, arch)
	if err != nil {
		return err
	}
	r := mutate.Extract(img)
	defer r.Close()
	files, err := readTar(r)
	if err != nil {
		return err
	}
	return writeDir(dir, files)
}
