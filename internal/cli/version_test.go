package cli

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	const full = "431d595b0c1e2f3a4b5c6d7e8f90123456789abc"
	module := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: full}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for name, c := range map[string]struct {
		commit   string
		released bool
		info     *debug.BuildInfo
		version  string
		revision string
	}{
		"make release": {full, true, module("(devel)"), "0.1.0", full},
		"make build":   {full, false, module("(devel)"), "0.1.0-dev+431d595b0c1e", full},
		"make build with changes": {
			full + "-dirty", false, module("v0.1.0+dirty", revision, modified), "0.1.0-dev+431d595b0c1e.dirty", full,
		},
		"a release with changes is none":  {full + "-dirty", true, module("(devel)"), "0.1.0-dev+431d595b0c1e.dirty", full},
		"make build without git":          {"unknown", false, module("(devel)"), "0.1.0-dev+unknown", "unknown"},
		"go install of the tag":           {"", false, module("v0.1.0"), "0.1.0", "unknown"},
		"go install of a tag before that": {"", false, module("v0.0.9"), "0.1.0-dev+unknown", "unknown"},
		"go install of a commit": {
			"", false, module("v0.0.0-20261124163515-431d595b0c1e"), "0.1.0-dev+431d595b0c1e", "431d595b0c1e",
		},
		"go build at the tag": {"", false, module("v0.1.0", revision), "0.1.0", full},
		"go build with changes at the tag": {
			"", false, module("v0.1.0+dirty", revision, modified), "0.1.0-dev+431d595b0c1e.dirty", full,
		},
		"go build of a commit after a tag": {
			"", false, module("v0.1.1-0.20261124163515-431d595b0c1e", revision), "0.1.0-dev+431d595b0c1e", full,
		},
		"go build without git":   {"", false, module("(devel)"), "0.1.0-dev+unknown", "unknown"},
		"a build without notes":  {"", false, nil, "0.1.0-dev+unknown", "unknown"},
		"a release, and no tags": {full, true, nil, "0.1.0", full},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version, revision := describe("0.1.0", c.commit, c.released, c.info)
			if version != c.version || revision != c.revision {
				t.Errorf("is %s, commit %s, want %s, commit %s", version, revision, c.version, c.revision)
			}
		})
	}
}
