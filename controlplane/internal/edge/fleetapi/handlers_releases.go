package fleetapi

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (s *server) ListAgentReleases(ctx context.Context, _ gen.ListAgentReleasesRequestObject) (gen.ListAgentReleasesResponseObject, error) {
	list, err := s.Releases.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing releases of the agent: %w", err)
	}
	return gen.ListAgentReleases200ApplicationVndAwsCdfV10PlusJSONResponse{Releases: each(list, agentRelease)}, nil
}

func (s *server) GetAgentRelease(ctx context.Context, r gen.GetAgentReleaseRequestObject) (gen.GetAgentReleaseResponseObject, error) {
	found, err := s.Releases.Get(ctx, r.Version)
	if err != nil {
		return nil, fmt.Errorf("reading release %s of the agent: %w", r.Version, err)
	}
	return gen.GetAgentRelease200ApplicationVndAwsCdfV10PlusJSONResponse{AgentReleaseFoundApplicationVndAwsCdfV10PlusJSONResponse: releaseFound(found)}, nil
}

func (s *server) DeleteAgentRelease(ctx context.Context, r gen.DeleteAgentReleaseRequestObject) (gen.DeleteAgentReleaseResponseObject, error) {
	if err := s.Releases.Remove(ctx, r.Version); err != nil {
		return nil, fmt.Errorf("deleting release %s of the agent: %w", r.Version, err)
	}
	return gen.DeleteAgentRelease204Response{}, nil
}

func (s *server) PutAgentReleaseFile(ctx context.Context, r gen.PutAgentReleaseFileRequestObject) (gen.PutAgentReleaseFileResponseObject, error) {
	f, err := s.Releases.Put(ctx, r.Version, r.File, r.Body)
	if err != nil {
		return nil, fmt.Errorf("storing file %s of release %s of the agent: %w", r.File, r.Version, err)
	}
	return gen.PutAgentReleaseFile201ApplicationVndAwsCdfV10PlusJSONResponse(releaseFile(f)), nil
}

func (s *server) ActivateAgentRelease(ctx context.Context, r gen.ActivateAgentReleaseRequestObject) (gen.ActivateAgentReleaseResponseObject, error) {
	a := release.Activation{Percentage: r.Body.Percentage, NamePattern: r.Body.NamePattern, MaxFailures: r.Body.MaxFailures}
	if n := r.Body.SpreadSeconds; n != nil {
		a.Spread = new(time.Duration(*n) * time.Second)
	}
	found, err := s.Releases.Activate(ctx, r.Version, a)
	if err != nil {
		return nil, fmt.Errorf("activating release %s of the agent: %w", r.Version, err)
	}
	return gen.ActivateAgentRelease200ApplicationVndAwsCdfV10PlusJSONResponse{AgentReleaseFoundApplicationVndAwsCdfV10PlusJSONResponse: releaseFound(found)}, nil
}

func (s *server) PauseAgentRelease(ctx context.Context, r gen.PauseAgentReleaseRequestObject) (gen.PauseAgentReleaseResponseObject, error) {
	found, err := s.Releases.Pause(ctx, r.Version)
	if err != nil {
		return nil, fmt.Errorf("pausing release %s of the agent: %w", r.Version, err)
	}
	return gen.PauseAgentRelease200ApplicationVndAwsCdfV10PlusJSONResponse{AgentReleaseFoundApplicationVndAwsCdfV10PlusJSONResponse: releaseFound(found)}, nil
}

func (s *server) ListAgentReleaseDevices(ctx context.Context, r gen.ListAgentReleaseDevicesRequestObject) (gen.ListAgentReleaseDevicesResponseObject, error) {
	f := release.Filter{Version: r.Version}
	if r.Params.State != nil {
		f.State = protocol.UpdateState(*r.Params.State)
	}
	p := page(opt(r.Params.Count), opt(r.Params.ExclusiveStartName))
	list, next, err := s.Releases.Devices(ctx, f, p.After, p.Count)
	if err != nil {
		return nil, fmt.Errorf("listing devices of release %s of the agent: %w", r.Version, err)
	}
	return gen.ListAgentReleaseDevices200ApplicationVndAwsCdfV10PlusJSONResponse{
		Devices: each(list, releaseDevice), Pagination: pagination(opt(r.Params.Count), api.LastEvaluated{Name: next}),
	}, nil
}

func releaseFound(r release.Release) gen.AgentReleaseFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.AgentReleaseFoundApplicationVndAwsCdfV10PlusJSONResponse(agentRelease(r))
}

func agentRelease(r release.Release) api.AgentRelease {
	out := api.AgentRelease{
		Version: r.Version, CreatedAt: api.At(r.CreatedAt), State: string(r.Rollout.State), Reason: r.Rollout.Reason, Percentage: r.Rollout.Percentage,
		Share: math.Round(r.Rollout.Share(time.Now())*100) / 100, SpreadSeconds: r.Rollout.Spread, NamePattern: r.Rollout.NamePattern, MaxFailures: r.Rollout.MaxFailures,
		Failures: r.Rollout.Failures, Since: api.At(r.Rollout.Since), Running: r.Running, Updates: map[string]int{}, Files: each(r.Files, releaseFile),
		Platforms: each(r.Platforms, func(p release.Platform) api.AgentReleasePlatform {
			return api.AgentReleasePlatform{Platform: p.Name, Digest: p.Digest, Size: p.Size, KeyID: p.KeyID, Over: p.Over, Verified: p.Verified}
		}),
	}
	for state, n := range r.Updates {
		out.Updates[string(state)] = n
	}
	return out
}

func releaseFile(f release.File) api.AgentReleaseFile {
	return api.AgentReleaseFile{Name: f.Name, Digest: f.Digest, Size: f.Size, Platform: f.Platform}
}

func releaseDevice(d release.Device) api.AgentReleaseDevice {
	return api.AgentReleaseDevice{
		Name: d.Name, Role: string(d.Role), Platform: d.Platform, Version: d.Version,
		UpdateVersion: d.Update.Version, UpdateState: string(d.Update.State), Reason: d.Update.Reason, At: api.At(d.At),
	}
}
