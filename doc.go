// Package acisync is the root of the module and holds no code of the program. It exists so that
// layers_test.go, which checks which package may import which, has a package to live in.
//
// The program is cmd/aci-sync; how it is put together is in docs/architecture.md.
package acisync
