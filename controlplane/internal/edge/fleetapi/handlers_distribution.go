package fleetapi

import (
	"context"
	"fmt"
	"io"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
)

func (s *server) ListDistributions(ctx context.Context, _ gen.ListDistributionsRequestObject) (gen.ListDistributionsResponseObject, error) {
	ds, err := s.Distributions.Distributions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing distributions: %w", err)
	}
	return gen.ListDistributions200ApplicationVndAwsCdfV10PlusJSONResponse{Distributions: each(ds, distribution)}, nil
}

func (s *server) ImportDistribution(ctx context.Context, r gen.ImportDistributionRequestObject) (gen.ImportDistributionResponseObject, error) {
	d, err := s.storeDistribution(ctx, Distribution{Format: string(r.Params.Format), Platform: r.Params.Platform}, r.Body)
	if err != nil {
		return nil, fmt.Errorf("storing a distribution: %w", err)
	}
	return gen.ImportDistribution201ApplicationVndAwsCdfV10PlusJSONResponse(d), nil
}

func (s *server) PutDistribution(ctx context.Context, r gen.PutDistributionRequestObject) (gen.PutDistributionResponseObject, error) {
	d, err := s.storeDistribution(ctx, Distribution{Name: r.Name, Version: r.Version, Format: string(r.Params.Format), Platform: r.Params.Platform}, r.Body)
	if err != nil {
		return nil, fmt.Errorf("storing distribution %s version %s: %w", r.Name, r.Version, err)
	}
	return gen.PutDistribution201ApplicationVndAwsCdfV10PlusJSONResponse(d), nil
}

func (s *server) storeDistribution(ctx context.Context, d Distribution, body io.Reader) (api.Distribution, error) {
	d, err := s.Distributions.PutDistribution(ctx, d, body, contentLength(ctx))
	return distribution(d), err
}

func (s *server) ActivateDistribution(ctx context.Context, r gen.ActivateDistributionRequestObject) (gen.ActivateDistributionResponseObject, error) {
	d, err := s.Distributions.ActivateDistribution(ctx, r.Name, r.Version, r.Params.Platform)
	if err != nil {
		return nil, fmt.Errorf("activating distribution %s version %s: %w", r.Name, r.Version, err)
	}
	return gen.ActivateDistribution200ApplicationVndAwsCdfV10PlusJSONResponse(distribution(d)), nil
}

func (s *server) GetNucleusPin(ctx context.Context, r gen.GetNucleusPinRequestObject) (gen.GetNucleusPinResponseObject, error) {
	name, version, err := s.Distributions.NucleusPin(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("finding the nucleus version of %s: %w", r.Name, err)
	}
	return gen.GetNucleusPin200ApplicationVndAwsCdfV10PlusJSONResponse{Name: name, Version: version}, nil
}

func (s *server) PutNucleusPin(ctx context.Context, r gen.PutNucleusPinRequestObject) (gen.PutNucleusPinResponseObject, error) {
	if err := s.Distributions.PinNucleus(ctx, r.Name, r.Body.Name, r.Body.Version); err != nil {
		return nil, fmt.Errorf("pinning %s to nucleus %s %s: %w", r.Name, r.Body.Name, r.Body.Version, err)
	}
	return gen.PutNucleusPin204Response{}, nil
}

func (s *server) DeleteNucleusPin(ctx context.Context, r gen.DeleteNucleusPinRequestObject) (gen.DeleteNucleusPinResponseObject, error) {
	if err := s.Distributions.UnpinNucleus(ctx, r.Name); err != nil {
		return nil, fmt.Errorf("taking back the nucleus version of %s: %w", r.Name, err)
	}
	return gen.DeleteNucleusPin204Response{}, nil
}

func distribution(d Distribution) api.Distribution {
	return api.Distribution{
		Name: d.Name, Version: d.Version, Digest: d.Digest, Size: d.Size, Format: api.DistributionFormat(d.Format),
		Runtime: api.DistributionRuntime(d.Runtime), Platform: d.Platform, Current: d.Current,
	}
}
