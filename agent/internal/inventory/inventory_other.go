//go:build !linux && !darwin && !windows

package inventory

import "github.com/ggfleet/ggfleet/shared/protocol"

func (r *Reader) read() Host                       { return Host{} }
func (r *Reader) identify() (f protocol.HostFacts) { return f }
func (r *Reader) routes() []protocol.DefaultRoute  { return nil }
func disk(string) Disk                             { return Disk{} }
