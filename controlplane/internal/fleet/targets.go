package fleet

import (
	"context"
	"encoding/json"
)

// AssetLibrary turns what an Asset Library knows into things (cdf-services §8).
// What it does not know is fault.NotFound and names it; other errors pass.
type AssetLibrary interface {
	// Devices returns the things of devices; a device without a thing is left out.
	Devices(ctx context.Context, ids []string) ([]string, error)
	// Group returns the things of the devices of a group, direct members only.
	Group(ctx context.Context, path string) ([]string, error)
	// Query returns the things of what a query finds: devices, and the members of
	// groups. query is an assetLibraryQuery as submitted.
	Query(ctx context.Context, query json.RawMessage) ([]string, error)
	// CheckQuery refuses a query that can never be carried out with fault.Invalid
	// and the path of the member.
	CheckQuery(query json.RawMessage) error
}
