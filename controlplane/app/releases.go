package app

import (
	"context"
	"fmt"
	"os"

	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/installer/signed"
)

// openReleases makes what keeps releases of the agent.
func (a *App) openReleases(context.Context) (err error) {
	var keys signed.Keys
	if name := a.cfg.AgentUpdateKeys; name != "" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("agent-update-keys: %w", err)
		}
		defer f.Close() //nolint:errcheck // read only
		if keys, err = signed.ReadKeys(f); err != nil {
			return fmt.Errorf("agent-update-keys %s: %w", name, err)
		}
	}
	a.releases, err = release.New(release.Config{Store: a.hub, Objects: a.objects, Keys: keys, Log: a.log})
	return err
}
