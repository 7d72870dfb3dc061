package app

import (
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/assetlibrary"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

// assets is the Asset Library that deployment tasks may name targets of; nil
// when none is set, and such targets are refused.
func (c *Config) assets() (fleet.AssetLibrary, error) {
	if c.AssetLibraryURL == "" {
		if len(c.AssetLibraryHeaders) > 0 {
			return nil, errors.New("asset-library-headers are set but asset-library-url is not: set it, or leave both out")
		}
		return nil, nil
	}
	client, err := assetlibrary.New(assetlibrary.Config{URL: c.AssetLibraryURL, Headers: c.AssetLibraryHeaders, Region: c.Region})
	if err != nil {
		return nil, fmt.Errorf("asset-library-url, asset-library-headers: %w", err)
	}
	return client, nil
}
