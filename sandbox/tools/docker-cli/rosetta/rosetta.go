// Package rosetta is a stand-in for github.com/tonistiigi/go-rosetta, which the module proxy does not always serve:
// Rosetta exists on macOS only, so on Linux the real one answers the same.
package rosetta

import "runtime"

// Enabled tells whether the process runs translated by Rosetta.
func Enabled() bool { return false }

// NativeArch is the machine's own architecture.
func NativeArch() string { return runtime.GOARCH }
