//go:build tools

// The Docker CLI is built from source; importing its command pins it and what it needs in go.mod.
package tools

import _ "github.com/docker/cli/cmd/docker"
