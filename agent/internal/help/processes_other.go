//go:build !linux

package help

import (
	"context"
	"io"
	"runtime"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func (h *Host) processes(context.Context, io.Writer) error {
	return fault.New(fault.Unsupported, "processes are not listed on %s", runtime.GOOS)
}
