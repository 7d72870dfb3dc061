// Command ggfleet is the control plane and the operator's command line.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ggfleet/ggfleet/controlplane/app"
	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

func main() {
	root := cli.New(buildinfo.Version,
		cli.Failed(app.Command(os.Stderr)), cli.Failed(app.DemoCommand(os.Stdout)), cli.Failed(app.DumpCommand(os.Stdout)))
	if c, err := root.ExecuteContextC(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet:", cli.Text(c, err))
		os.Exit(cli.ExitCode(err))
	}
}
