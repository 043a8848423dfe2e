//go:build !race

package stories_test

const raceDetector = false
