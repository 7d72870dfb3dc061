// Command ggfleet is the control plane and the operator's command line.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/app"
)

func main() {
	root := &cobra.Command{Use: "ggfleet", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(app.Command(os.Stderr), app.DemoCommand(os.Stdout), app.DumpCommand(os.Stdout))
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet:", err)
		os.Exit(1)
	}
}
