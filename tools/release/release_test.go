package main

import (
	"bytes"
	"os"
	"path/filepath"
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

// The chart packed twice, with Helm's notes of the time between them, and rendered.
func TestChart(t *testing.T) {
	s, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.release = true
	made := map[string]string{}
	for range 2 {
		dir := t.TempDir()
		if err := s.writeChart(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		files, err := readDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if before, ok := made[f.name]; ok && before != string(f.data) {
				t.Errorf("%s is not the same again", f.name)
			}
			made[f.name] = string(f.data)
		}
	}
	if len(made) != 2 || made["aci-sync-"+s.next+".tgz"] == "" {
		t.Errorf("made %d files, want the chart and install.yaml", len(made))
	}
	if !strings.Contains(made["install.yaml"], "name: externalepgs.aci.haystacknetworks.com") {
		t.Error("install.yaml has no CustomResourceDefinition")
	}
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
