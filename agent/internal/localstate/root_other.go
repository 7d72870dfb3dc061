//go:build !linux && !windows

package localstate

// DefaultRoot is where the agent lives unless told otherwise.
const DefaultRoot = "/Library/Application Support/ggfleet-agent"
