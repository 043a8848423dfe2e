package desired_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the reference says about annotations is shown by goldens and stories, by name.
func TestReference_names_goldens_and_stories_that_exist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reference/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	shown := false
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		last := cells[len(cells)-1]
		switch {
		case !strings.HasPrefix(line, "|"):
			shown = false
		case strings.HasPrefix(last, "shown by"):
			shown = true
		case !shown || strings.HasPrefix(line, "| ---"):
		default:
			found := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(last, -1)
			if found == nil {
				t.Errorf("nothing shows %s", line)
			}
			for _, name := range found {
				file := "testdata/" + name[1] + ".txtar"
				for prefix, dir := range map[string]string{"story/": "../../test/stories/", "plan/": "../plan/"} {
					if rest, ok := strings.CutPrefix(name[1], prefix); ok {
						file = dir + "testdata/" + rest + ".txtar"
					}
				}
				if _, err := os.Stat(file); err != nil {
					t.Errorf("%s: %v", strings.TrimSpace(line), err)
				}
				names++
			}
		}
	}
	if names < 50 {
		t.Errorf("only %d names were found", names)
	}
}
