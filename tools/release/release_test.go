package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newCheckout is one of a version 0.1.0 with a CHANGELOG, all of it committed.
func newCheckout(t *testing.T, changelog string) *source {
	t.Helper()
	s := &source{dir: t.TempDir()}
	writeFile(t, s.path("charts/aci-sync/Chart.yaml"), "name: aci-sync\nversion: 0.1.0\nkubeVersion: \">=1.30.0-0\"\n")
	writeFile(t, s.path("CHANGELOG.md"), "# Changelog\n"+changelog)
	git(t, s, "init", "--quiet")
	git(t, s, "add", ".")
	commit(t, s)
	return again(t, s)
}

func commit(t *testing.T, s *source) {
	t.Helper()
	git(t, s, "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false", "commit", "--quiet", "--allow-empty", "-m", "m")
}

func git(t *testing.T, s *source, args ...string) {
	t.Helper()
	if _, err := output(t.Context(), s.dir, "git", args...); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := writeDir(filepath.Dir(name), []file{{filepath.Base(name), 0o644, []byte(text)}}); err != nil {
		t.Fatal(err)
	}
}

// again looks at the checkout of s as it is now.
func again(t *testing.T, s *source) *source {
	t.Helper()
	t.Chdir(s.dir)
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsNotReleased(t *testing.T) {
	const heading = "\n## [0.1.0] - 2026-11-24\n"
	for name, c := range map[string]struct {
		changelog string
		then      func(t *testing.T, s *source)
		want      string // in the error; none is ""
	}{
		"a commit with a heading is": {heading, func(*testing.T, *source) {}, ""},
		"a tagged one is":            {heading, func(t *testing.T, s *source) { git(t, s, "tag", "v0.1.0") }, ""},
		"one with an annotated tag is": {heading, func(t *testing.T, s *source) {
			git(t, s, "-c", "user.name=n", "-c", "user.email=e", "-c", "tag.gpgsign=false", "tag", "-a", "-m", "m", "v0.1.0")
		}, ""},
		"a change": {
			heading, func(t *testing.T, s *source) { writeFile(t, s.path("CHANGELOG.md"), "") }, "the checkout has changes",
		},
		"a file that git does not know": {
			heading, func(t *testing.T, s *source) { writeFile(t, s.path("main.go"), "") }, "the checkout has changes",
		},
		"a version without a heading": {"\n## [Unreleased]\n", func(*testing.T, *source) {}, `no heading "## [0.1.0]"`},
		"a version that another commit has": {
			heading, func(t *testing.T, s *source) { git(t, s, "tag", "v0.1.0"); commit(t, s) }, "v0.1.0 is the tag of another commit",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCheckout(t, c.changelog)
			c.then(t, s)
			err := again(t, s).releasable(t.Context())
			switch {
			case c.want == "" && err != nil:
				t.Errorf("is refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("is refused with %v, want one line with %q", err, c.want)
			}
		})
	}
}

func TestVersionOfWhatIsMade(t *testing.T) {
	s := newCheckout(t, "")
	if got, want := s.version(), "0.1.0-dev+"+s.commit[:12]; got != want {
		t.Errorf("a snapshot is %s, want %s", got, want)
	}
	if got, want := s.tag(), "0.1.0-dev_"+s.commit[:12]; got != want {
		t.Errorf("its tag is %s, want %s", got, want)
	}
	writeFile(t, s.path("new"), "")
	if got, want := again(t, s).version(), "0.1.0-dev+"+s.commit[:12]+".dirty"; got != want {
		t.Errorf("one with changes is %s, want %s", got, want)
	}
	s.release = true
	if got := s.version(); got != "0.1.0" {
		t.Errorf("a release is %s, want 0.1.0", got)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if got := again(t, s).time.Unix(); got != 1700000000 {
		t.Errorf("is of %d, want the time of SOURCE_DATE_EPOCH", got)
	}
}

func TestADistOnlyStandsWhenItIsWhole(t *testing.T) {
	s := newCheckout(t, "")
	dist := s.path("dist")
	// There is no LICENSE to pack.
	if err := s.writeDist(t.Context(), dist, true, new(bytes.Buffer)); err == nil {
		t.Fatal("is made without a LICENSE")
	}
	if left, err := filepath.Glob(dist + "*"); err != nil || left != nil {
		t.Errorf("leaves %v (%v)", left, err)
	}
}

// All of a version, for the one platform whose packages are compiled anyway.
func TestDist(t *testing.T) {
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.images, s.archives = []string{runtime.GOARCH}, []platform{{"linux", runtime.GOARCH}}
	dir := filepath.Join(t.TempDir(), "dist")
	var said bytes.Buffer
	if err := s.writeDist(t.Context(), dir, true, &said); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range list(t, dir) {
		files[f.name] = string(f.data)
	}
	archive := "aci-sync_" + s.tag() + "_linux_" + runtime.GOARCH
	chart := "aci-sync-" + s.tag() + ".tgz"
	want := []string{"SHA256SUMS", "install.yaml", "aci-sync_" + s.tag() + "_image.tar", archive + ".tar.gz", archive + ".cdx.json", chart}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(files))); diff != "" {
		t.Fatal("dist (-want +got):\n", diff)
	}
	if !strings.HasPrefix(said.String(), files["SHA256SUMS"]) || !strings.Contains(said.String(), s.reference()+"@sha256:") {
		t.Errorf("says %q, want checksums and the image", &said)
	}

	t.Run("verifies", func(t *testing.T) {
		if _, err := output(t.Context(), dir, "sha256sum", "--check", "--strict", "SHA256SUMS"); err != nil {
			t.Error(err)
		}
		if lines := strings.Count(files["SHA256SUMS"], "\n"); lines != len(files)-1 {
			t.Errorf("SHA256SUMS has %d lines, want one for each of the %d others", lines, len(files)-1)
		}
	})
	t.Run("archive", func(t *testing.T) {
		var names []string
		for _, f := range packed(t, files[archive+".tar.gz"]) {
			names = append(names, fmt.Sprintf("%o %s", f.mode, strings.TrimPrefix(f.name, archive+"/")))
		}
		want := []string{"644 LICENSE", "644 README.md", "644 CHANGELOG.md", "755 aci-sync", "755 apic-sim"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error("(-want +got):\n", diff)
		}
	})
	t.Run("SBOM", func(t *testing.T) {
		var sbom struct {
			BOMFormat string
			Metadata  struct {
				Component struct{ Name, Version string }
			}
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal([]byte(files[archive+".cdx.json"]), &sbom); err != nil {
			t.Fatal(err)
		}
		if c := sbom.Metadata.Component; sbom.BOMFormat != "CycloneDX" || c.Name != module || c.Version != "v"+s.version() {
			t.Errorf("is %s of %s %s", sbom.BOMFormat, c.Name, c.Version)
		}
		found := map[string]bool{}
		for _, c := range sbom.Components {
			found[c.Name] = c.Version != ""
		}
		for _, name := range []string{"std", "k8s.io/client-go", "golang.org/x/crypto/x509roots/fallback"} {
			if !found[name] {
				t.Errorf("has no %s among %d components", name, len(sbom.Components))
			}
		}
	})
	t.Run("chart", func(t *testing.T) {
		for _, f := range packed(t, files[chart]) {
			if f.name == "aci-sync/Chart.yaml" && !strings.Contains(string(f.data), "\nversion: "+s.version()+"\n") {
				t.Errorf("is of another version than %s:\n%s", s.version(), f.data)
			}
		}
		if !strings.Contains(files["install.yaml"], "name: externalepgs.aci.haystacknetworks.com") {
			t.Error("install.yaml has no CustomResourceDefinition")
		}
	})
	t.Run("is the same again, in place of what was there", func(t *testing.T) {
		writeFile(t, filepath.Join(dir, "stale"), "")
		if err := s.writeDist(t.Context(), dir, true, new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
		again := map[string]string{}
		for _, f := range list(t, dir) {
			again[f.name] = string(f.data)
			if files[f.name] != again[f.name] {
				t.Errorf("%s differs", f.name)
			}
		}
		if len(again) != len(files) {
			t.Errorf("has %d files, then %d", len(files), len(again))
		}
	})
}

func list(t *testing.T, dir string) []file {
	t.Helper()
	files, err := readDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// packed are the files of a compressed archive.
func packed(t *testing.T, archive string) []file {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readTar(z)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestUsageIsOneLine(t *testing.T) {
	for _, args := range [][]string{nil, {"image"}, {"image", "-x"}, {"dist", "-o", "d", "more"}, {"none", "-o", "d"}} {
		err := run(t.Context(), args, new(bytes.Buffer))
		if err == nil || err.Error() != usage {
			t.Errorf("%q ends with %v, want the usage", args, err)
		}
	}
}

func TestArchivesAreNobodysAndOfOneTime(t *testing.T) {
	s := &source{}
	want := []file{{"a/b", 0o755, []byte("program")}, {"c", 0o644, nil}}
	var out bytes.Buffer
	if err := writeTar(&out, s.time, want); err != nil {
		t.Fatal(err)
	}
	got, err := readTar(&out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(file{}), cmp.Transformer("", func(b []byte) string { return string(b) })); diff != "" {
		t.Error("(-written +read):\n", diff)
	}
	dir := t.TempDir()
	if err := writeDir(filepath.Join(dir, "in"), []file{{"../out", 0o644, nil}}); err == nil {
		t.Error("writes beside the directory")
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("wrote beside the directory")
	}
}
