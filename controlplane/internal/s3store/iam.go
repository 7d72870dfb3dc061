package s3store

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Accounts finds the secret of an access key.
type Accounts interface {
	// Secret returns the key's secret, and whether the key may do everything here;
	// one that may not may do nothing. fault.NotFound if there is no such key, or it
	// was revoked.
	Secret(ctx context.Context, id string) (secret logx.Secret, admitted bool, err error)
}

// lookupTimeout bounds a search for a key: versitygw hands no context on.
const lookupTimeout = 10 * time.Second

// iam lets versitygw admit the keys that Accounts admits, and change none.
type iam struct{ accounts Accounts }

var (
	_ auth.IAMService      = iam{}
	_ auth.PolicyEvaluator = iam{}
)

// GetUserAccount implements auth.IAMService. A key that is admitted may use every
// bucket: it belongs to an operator of this store.
func (i iam) GetUserAccount(id string) (auth.Account, error) {
	if i.accounts == nil {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	secret, admitted, err := i.accounts.Secret(ctx, id)
	if errors.Is(err, fault.NotFound) {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	if err != nil {
		return auth.Account{}, err
	}
	role := auth.RoleUser
	if admitted {
		role = auth.RoleAdmin
	}
	return auth.Account{Access: id, Secret: secret.Reveal(), Role: role}, nil
}

// EvaluatePolicy implements auth.PolicyEvaluator. It is asked about keys that are
// not admitted, once their signature was verified, and refuses whatever they want:
// no policy of a bucket opens it to them.
func (iam) EvaluatePolicy(access, _ string, _ []auth.Action, _ []string, _ map[string][]string) (auth.PolicyEvaluation, error) {
	return auth.PolicyEvaluation{}, s3err.APIError{
		Code: "AccessDenied", HTTPStatusCode: http.StatusForbidden,
		Description: "The role of access key " + access + " does not open the bucket; an administrator makes keys that do.",
	}
}

// ResolveAccounts implements auth.IAMService: it returns the unknown ones.
func (i iam) ResolveAccounts(ids []string) ([]string, error) {
	unknown := []string{}
	for _, id := range ids {
		switch _, err := i.GetUserAccount(id); {
		case errors.Is(err, auth.ErrNoSuchUser):
			unknown = append(unknown, id)
		case err != nil:
			return nil, err
		}
	}
	return unknown, nil
}

func unsupported() error { return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported) }

// CreateAccount implements auth.IAMService.
func (iam) CreateAccount(auth.Account) error { return unsupported() }

// UpdateUserAccount implements auth.IAMService.
func (iam) UpdateUserAccount(string, auth.MutableProps) error { return unsupported() }

// DeleteUserAccount implements auth.IAMService.
func (iam) DeleteUserAccount(string) error { return unsupported() }

// ListUserAccounts implements auth.IAMService.
func (iam) ListUserAccounts() ([]auth.Account, error) { return nil, unsupported() }

// Shutdown implements auth.IAMService.
func (iam) Shutdown() error { return nil }
