package nucleusfacts

import "github.com/ggfleet/ggfleet/shared/protocol"

// ParseEffective returns what is taken of an effective configuration.
func ParseEffective(b []byte) ([]protocol.LocalComponent, string, error) {
	e, err := parseEffective(b)
	return e.components, e.digest, err
}

var (
	ParseCLI   = parseCLI
	ParseUnits = parseUnits
	ErrorLines = errorLines
	Shown      = shown
)
