//go:build !linux

package keystore

import (
	"runtime"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func openTPM(string, Files) (Store, error) {
	return nil, fault.New(fault.Unsupported, "keys in a TPM are not supported on %s; keep the key in a file", runtime.GOOS)
}
