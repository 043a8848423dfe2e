package main

import (
	"bytes"
	"debug/elf"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// built makes the image of this checkout and returns the archive and what is unpacked of it.
func built(t *testing.T, s *source) (archive, unpacked string, digest v1.Hash) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "image.tar")
	digest, err := s.writeImage(t.Context(), archive)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, err := readTar(f)
	if err != nil {
		t.Fatal(err)
	}
	unpacked = filepath.Join(t.TempDir(), "image")
	if err := writeDir(unpacked, files); err != nil {
		t.Fatal(err)
	}
	return archive, unpacked, digest
}

func TestImage(t *testing.T) {
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	archive, unpacked, digest := built(t, s)
	top, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(top); err != nil {
		t.Fatal(err)
	}
	entries, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	// One entry, with the name under which it is loaded.
	if len(entries.Manifests) != 1 || entries.Manifests[0].Digest != digest ||
		entries.Manifests[0].Annotations["io.containerd.image.name"] != repository+":"+s.tag() {
		t.Fatalf("index.json is %+v, want the one image %s", entries, digest)
	}
	all, err := top.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("is for both architectures, and holds one static program", func(t *testing.T) {
		manifest, err := all.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var archs []string
		for _, m := range manifest.Manifests {
			archs = append(archs, m.Platform.OS+"/"+m.Platform.Architecture)
			img, err := all.Image(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			want := v1.Config{User: "65532:65532", Entrypoint: []string{"/aci-sync"}, WorkingDir: "/", Labels: s.labels()}
			if diff := cmp.Diff(want, config.Config); diff != "" {
				t.Error("its configuration (-want +got):\n", diff)
			}
			if config.Architecture != m.Platform.Architecture || config.OS != "linux" || !config.Created.Equal(s.time) {
				t.Errorf("is of %s/%s, made %v, want %v, made %v", config.OS, config.Architecture, config.Created, m.Platform, s.time)
			}
			files := extracted(t, img)
			if len(files) != 1 || files[0].name != "aci-sync" || files[0].mode != 0o755 {
				t.Fatalf("holds %v, want aci-sync alone, for all to run", files)
			}
			program, err := elf.NewFile(bytes.NewReader(files[0].data))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range program.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("aci-sync for %s is linked dynamically", m.Platform)
				}
			}
			if machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[config.Architecture]; program.Machine != machine {
				t.Errorf("the program for %s is for %s", config.Architecture, program.Machine)
			}
			if bytes.Contains(files[0].data, []byte(s.dir)) {
				t.Errorf("aci-sync for %s tells where it was built", m.Platform)
			}
		}
		if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(archs, want) {
			t.Errorf("is for %v, want %v", archs, want)
		}
	})

	t.Run("is the same when it is made again", func(t *testing.T) {
		again, _, d := built(t, s)
		if d != digest {
			t.Errorf("is %s, then %s", digest, d)
		}
		if !bytes.Equal(read(t, archive), read(t, again)) {
			t.Error("the archives differ")
		}
	})

	t.Run("goes to a registry whole", func(t *testing.T) {
		server := httptest.NewServer(registry.New())
		defer server.Close()
		ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/aci-sync:"+s.tag(), name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, all); err != nil {
			t.Fatal(err)
		}
		head, err := remote.Head(ref)
		if err != nil || head.Digest != digest {
			t.Errorf("the registry has %v (%v), want %s", head, err, digest)
		}
	})
}

// In another directory, as another user's docker build does it, and with what .dockerignore lets through only.
func TestTheImageHoldsTheProgramThatTheDockerfileBuilds(t *testing.T) {
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := s.writeRootfs(t.Context(), root, runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(root, "aci-sync")
	dockers := dockerBuild(t, s)
	if a, b := read(t, ours), read(t, dockers); !bytes.Equal(a, b) {
		t.Errorf("one has %d bytes, the other %d, and they differ", len(a), len(b))
	}
	if runtime.GOOS != "linux" {
		return
	}
	out, err := exec.CommandContext(t.Context(), ours, "version").Output()
	if want := "aci-sync " + s.version() + ", commit " + s.commit + ", " + runtime.Version(); err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("prints %q (%v), want %q", out, err, want)
	}
}

// extracted are the files of an image.
func extracted(t *testing.T, img v1.Image) []file {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	files, err := readTar(r)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var instruction = regexp.MustCompile(`(?m)^(RUN|USER|ENTRYPOINT|WORKDIR|LABEL) (.*)$`)

// dockerfile are the arguments of the instructions of one kind, in order.
func dockerfile(t *testing.T, s *source, kind string) []string {
	t.Helper()
	var out []string
	for _, m := range instruction.FindAllStringSubmatch(string(read(t, s.path("Dockerfile"))), -1) {
		if m[1] == kind {
			out = append(out, m[2])
		}
	}
	return out
}

// dockerBuild does what the Dockerfile's build does, with a shell, and returns the program.
func dockerBuild(t *testing.T, s *source) string {
	t.Helper()
	dir := t.TempDir()
	for line := range strings.Lines(string(read(t, s.path(".dockerignore")))) {
		allowed, ok := strings.CutPrefix(strings.TrimSpace(line), "!")
		if !ok {
			continue
		}
		known, err := output(t.Context(), s.dir, "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", allowed)
		if err != nil || known == "" {
			t.Fatalf(".dockerignore lets %s through, which is not there (%v)", allowed, err)
		}
		for _, f := range strings.Fields(known) {
			if err := writeDir(dir, []file{{f, 0o644, read(t, s.path(f))}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	runs := dockerfile(t, s, "RUN")
	if len(runs) != 2 || runs[0] != "go mod download" {
		t.Fatalf("the Dockerfile runs %q, want a download and a build", runs)
	}
	program := filepath.Join(t.TempDir(), "aci-sync")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(runs[1], " /aci-sync", " "+program))
	cmd.Dir = dir
	commit := s.commit
	if s.dirty {
		commit += "-dirty"
	}
	cmd.Env = append(os.Environ(), "GOFLAGS=", "TARGETARCH="+runtime.GOARCH, "COMMIT="+commit, "RELEASE=false")
	if err := silently(cmd); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestDockerfileMakesTheSameImage(t *testing.T) {
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string][]string{
		"USER": {imageUser}, "ENTRYPOINT": {`["` + entrypoint + `"]`}, "WORKDIR": {"/src", "/"},
	} {
		if got := dockerfile(t, s, kind); !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", kind, got, want)
		}
	}
	labels := s.labels()
	for _, kind := range []string{"version", "created"} { // which a Dockerfile cannot know
		delete(labels, "org.opencontainers.image."+kind)
	}
	labels["org.opencontainers.image.revision"] = "$COMMIT"
	got := map[string]string{}
	for _, l := range dockerfile(t, s, "LABEL") {
		key, value, _ := strings.Cut(l, "=")
		got[key] = strings.Trim(value, `"`)
	}
	if diff := cmp.Diff(labels, got); diff != "" {
		t.Error("labels (-ours +the Dockerfile's):\n", diff)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
