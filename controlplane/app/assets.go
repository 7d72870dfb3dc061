package app

import (
	"github.com/ggfleet/ggfleet/controlplane/internal/assetlibrary"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

// assets is the Asset Library that deployment tasks may name targets of; nil
// when none is set, and such targets are refused.
func (a *App) assets() (fleet.AssetLibrary, error) {
	if a.cfg.AssetLibraryURL == "" {
		return nil, nil
	}
	return assetlibrary.New(assetlibrary.Config{URL: a.cfg.AssetLibraryURL, Headers: a.cfg.AssetLibraryHeaders, Region: a.cfg.Region})
}
