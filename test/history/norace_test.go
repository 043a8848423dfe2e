//go:build !race

package history_test

// raceDetector tells whether the tests were built with it; histories then take ten times as long.
const raceDetector = false
