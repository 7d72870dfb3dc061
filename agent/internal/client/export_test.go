package client

import "github.com/ggfleet/ggfleet/shared/protocol"

// NamesIn returns the names of the cores in d that become files.
func NamesIn(d protocol.Discovery) (names []string) {
	cores, _ := read(d)
	for _, c := range cores {
		names = append(names, c.core.ThingName)
	}
	return names
}
