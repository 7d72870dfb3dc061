//go:build !unix

package client

import (
	"os"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func giveToGroup(*os.Root, string, string) error {
	return fault.New(fault.Unsupported, "this system has no groups of files; give the application its rights by hand")
}
