package fleetapi

import (
	"context"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
)

func (s *server) CreateAccessKey(ctx context.Context, r gen.CreateAccessKeyRequestObject) (gen.CreateAccessKeyResponseObject, error) {
	info, err := s.System.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating an access key: %w", err)
	}
	k, secret, err := s.AccessKeys.CreateAccessKey(ctx, r.Body.Description)
	if err != nil {
		return nil, fmt.Errorf("creating an access key: %w", err)
	}
	return gen.CreateAccessKey201ApplicationVndAwsCdfV10PlusJSONResponse{
		AccessKeyID:     k.ID,
		SecretAccessKey: secret,
		Region:          info.Region,
		EndpointURL:     info.Addresses[AddressAWS],
	}, nil
}

func (s *server) ListAccessKeys(ctx context.Context, _ gen.ListAccessKeysRequestObject) (gen.ListAccessKeysResponseObject, error) {
	ks, err := s.AccessKeys.AccessKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing access keys: %w", err)
	}
	return gen.ListAccessKeys200ApplicationVndAwsCdfV10PlusJSONResponse{
		AccessKeys: each(ks, func(k AccessKey) api.AccessKey {
			return api.AccessKey{AccessKeyID: k.ID, Description: k.Description, CreatedAt: api.At(k.CreatedAt)}
		}),
	}, nil
}

func (s *server) DeleteAccessKey(ctx context.Context, r gen.DeleteAccessKeyRequestObject) (gen.DeleteAccessKeyResponseObject, error) {
	if err := s.AccessKeys.DeleteAccessKey(ctx, r.AccessKeyID); err != nil {
		return nil, fmt.Errorf("deleting access key %s: %w", r.AccessKeyID, err)
	}
	return gen.DeleteAccessKey204Response{}, nil
}

func (s *server) CreateToken(ctx context.Context, r gen.CreateTokenRequestObject) (gen.CreateTokenResponseObject, error) {
	b := r.Body
	t, secret, err := s.Tokens.CreateToken(ctx, NewToken{Name: b.Name, Role: Role(b.Role), ValidFor: time.Duration(b.ExpiresInSeconds) * time.Second})
	if err != nil {
		return nil, fmt.Errorf("creating a token for %s: %w", b.Name, err)
	}
	return gen.CreateToken201ApplicationVndAwsCdfV10PlusJSONResponse{
		ID:        t.ID,
		Name:      t.Name,
		Role:      api.Role(t.Role),
		Token:     secret,
		CreatedAt: api.At(t.CreatedAt),
		ExpiresAt: api.At(t.ExpiresAt),
	}, nil
}

func (s *server) ListTokens(ctx context.Context, _ gen.ListTokensRequestObject) (gen.ListTokensResponseObject, error) {
	ts, err := s.Tokens.Tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	return gen.ListTokens200ApplicationVndAwsCdfV10PlusJSONResponse{
		Tokens: each(ts, func(t Token) api.Token {
			return api.Token{ID: t.ID, Name: t.Name, Role: api.Role(t.Role), CreatedAt: api.At(t.CreatedAt), ExpiresAt: api.At(t.ExpiresAt)}
		}),
	}, nil
}

func (s *server) DeleteToken(ctx context.Context, r gen.DeleteTokenRequestObject) (gen.DeleteTokenResponseObject, error) {
	if err := s.Tokens.DeleteToken(ctx, r.TokenID); err != nil {
		return nil, fmt.Errorf("deleting token %s: %w", r.TokenID, err)
	}
	return gen.DeleteToken204Response{}, nil
}
