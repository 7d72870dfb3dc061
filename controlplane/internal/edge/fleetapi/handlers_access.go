package fleetapi

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
)

func (s *server) CreateAccessKey(ctx context.Context, r gen.CreateAccessKeyRequestObject) (gen.CreateAccessKeyResponseObject, error) {
	info, err := s.System.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating an access key: %w", err)
	}
	k, err := s.AccessKeys.Create(ctx, r.Body.Description, access.Role(r.Body.Role))
	if err != nil {
		return nil, fmt.Errorf("creating an access key: %w", err)
	}
	return gen.CreateAccessKey201ApplicationVndAwsCdfV10PlusJSONResponse{
		AccessKeyID:     k.ID,
		SecretAccessKey: k.Secret.Reveal(),
		Role:            api.AccessKeyRole(k.Role),
		Region:          info.Region,
		EndpointURL:     info.Addresses[AddressAWS],
	}, nil
}

func (s *server) ListAccessKeys(ctx context.Context, _ gen.ListAccessKeysRequestObject) (gen.ListAccessKeysResponseObject, error) {
	ks, err := s.AccessKeys.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing access keys: %w", err)
	}
	return gen.ListAccessKeys200ApplicationVndAwsCdfV10PlusJSONResponse{
		AccessKeys: each(ks, func(k access.Key) api.AccessKey {
			return api.AccessKey{AccessKeyID: k.ID, Description: k.Description, Role: api.AccessKeyRole(k.Role), CreatedAt: api.At(k.Created)}
		}),
	}, nil
}

func (s *server) DeleteAccessKey(ctx context.Context, r gen.DeleteAccessKeyRequestObject) (gen.DeleteAccessKeyResponseObject, error) {
	if err := s.AccessKeys.Revoke(ctx, r.AccessKeyID); err != nil {
		return nil, fmt.Errorf("deleting access key %s: %w", r.AccessKeyID, err)
	}
	return gen.DeleteAccessKey204Response{}, nil
}

func (s *server) CreateToken(ctx context.Context, r gen.CreateTokenRequestObject) (gen.CreateTokenResponseObject, error) {
	secret, err := s.Tokens.Create(ctx, r.Body.Name, access.Role(r.Body.Role))
	if err != nil {
		return nil, fmt.Errorf("creating a token for %s: %w", r.Body.Name, err)
	}
	return gen.CreateToken201ApplicationVndAwsCdfV10PlusJSONResponse{Name: r.Body.Name, Role: r.Body.Role, Token: secret.Reveal()}, nil
}

func (s *server) ListTokens(ctx context.Context, _ gen.ListTokensRequestObject) (gen.ListTokensResponseObject, error) {
	ts, err := s.Tokens.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	return gen.ListTokens200ApplicationVndAwsCdfV10PlusJSONResponse{
		Tokens: each(ts, func(t access.Token) api.Token {
			return api.Token{Name: t.Name, Role: api.Role(t.Role), CreatedAt: api.At(t.Created)}
		}),
	}, nil
}

func (s *server) DeleteToken(ctx context.Context, r gen.DeleteTokenRequestObject) (gen.DeleteTokenResponseObject, error) {
	if err := s.Tokens.Revoke(ctx, r.Name); err != nil {
		return nil, fmt.Errorf("deleting the token of %s: %w", r.Name, err)
	}
	return gen.DeleteToken204Response{}, nil
}
