//go:build race

package stories_test

// The program is built like its test: with the race detector in both or in neither.
const raceDetector = true
