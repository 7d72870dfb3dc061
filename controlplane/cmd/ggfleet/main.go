// Command ggfleet is the control plane and the operator's command line.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ggfleet/ggfleet/controlplane/app"
)

func main() {
	c := app.Command(os.Stderr)
	if err := c.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet:", err)
		os.Exit(1)
	}
}
