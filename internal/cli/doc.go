// Package cli is the command line: flags and their environment twins, configuration, logs and
// exit codes. It puts the parts together and knows nothing about how they work.
package cli
