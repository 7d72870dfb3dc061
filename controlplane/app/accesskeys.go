package app

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// openSessions makes what hands temporary credentials to devices.
func (a *App) openSessions(ctx context.Context) error {
	secret, err := ensureSecret(ctx, a.hub, a.sealer, "sessions")
	if err != nil {
		return err
	}
	a.sessions, err = access.NewSessions(access.SessionsConfig{Secret: secret})
	return err
}

// awsSecrets finds what belongs to an access key of the AWS endpoint.
type awsSecrets struct {
	keys     *access.Keys
	sessions *access.Sessions
}

// Secret implements sigv4.Secrets.
func (s awsSecrets) Secret(ctx context.Context, accessKey, sessionToken string) (sigv4.Credential, error) {
	if sessionToken != "" {
		session, err := s.sessions.Open(ctx, accessKey, sessionToken)
		return sigv4.Credential{Secret: session.Secret, Device: session.Thing, Expires: session.Expires}, err
	}
	key, err := s.keys.Get(ctx, accessKey)
	return sigv4.Credential{Secret: key.Secret, Role: key.Role}, err
}

// bucketKeys are the access keys that open the bucket of artifacts: those that
// may do everything, because the private keys of cores lie there.
type bucketKeys struct{ keys *access.Keys }

// Secret implements s3store.Accounts.
func (b bucketKeys) Secret(ctx context.Context, id string) (secret logx.Secret, admitted bool, err error) {
	key, err := b.keys.Get(ctx, id)
	return key.Secret, key.Role.Includes(access.Admin), err
}
