package awscloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Config is what a Cloud needs.
type Config struct {
	Realm     names.Realm // the account, and the region that requests are signed for
	AccessKey string
	Secret    logx.Secret
	Token     logx.Secret // of temporary credentials; empty: none
	// Endpoint is the base URL of both services; empty: AWS's own.
	Endpoint string
	// HTTP must have a timeout; nil: a client with 30 seconds.
	HTTP *http.Client
	// Poll is how often executions are looked at; 0: 30 seconds.
	Poll time.Duration
	// Settle bounds the wait for what AWS does a moment after its answer; 0: 15
	// seconds.
	Settle time.Duration
}

// Cloud is one account of AWS in one region. Safe for concurrent use.
type Cloud struct {
	greengrass *greengrassv2.Client
	iot        *iot.Client
	realm      names.Realm
	poll       time.Duration
	settle     time.Duration
}

var (
	_ cloud.Components   = (*Cloud)(nil)
	_ cloud.Deployments  = (*Cloud)(nil)
	_ cloud.Associations = (*Cloud)(nil)
)

const (
	requestTimeout = 30 * time.Second
	attempts       = 3               // of one call, the first included
	maxBackoff     = 2 * time.Second // between two of them
	pageOfIoT      = 250
	pageGreengrass = 100
)

// New checks cfg. It calls nobody.
func New(cfg Config) (*Cloud, error) {
	if cfg.Realm.Region == "" || cfg.Realm.Account == "" || cfg.AccessKey == "" || cfg.Secret.Reveal() == "" {
		return nil, errors.New("awscloud: Realm, AccessKey and Secret are required")
	}
	if cfg.Poll < 0 || cfg.Settle < 0 {
		return nil, errors.New("awscloud: Poll and Settle must not be negative")
	}
	httpClient := cfg.HTTP
	if httpClient == nil {
		httpClient = &http.Client{Timeout: requestTimeout}
	}
	if httpClient.Timeout <= 0 {
		return nil, errors.New("awscloud: HTTP needs a timeout")
	}
	var endpoint *string
	if cfg.Endpoint != "" {
		endpoint = &cfg.Endpoint
	}
	given := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: cfg.AccessKey, SecretAccessKey: cfg.Secret.Reveal(), SessionToken: cfg.Token.Reveal()}, nil
	})
	// The standard mode: adaptive retries would hide throttling from the fleet
	// service, which paces itself.
	retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxBackoff })
	return &Cloud{
		greengrass: greengrassv2.New(greengrassv2.Options{Region: cfg.Realm.Region, BaseEndpoint: endpoint, Credentials: given, HTTPClient: httpClient, Retryer: retryer}),
		iot:        iot.New(iot.Options{Region: cfg.Realm.Region, BaseEndpoint: endpoint, Credentials: given, HTTPClient: httpClient, Retryer: retryer}),
		realm:      cfg.Realm,
		poll:       cmp.Or(cfg.Poll, 30*time.Second),
		settle:     cmp.Or(cfg.Settle, 15*time.Second),
	}, nil
}

// failed says what was being done when err came, as a kind of fault.
func failed(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return fmt.Errorf("%w: %w", fault.New(fault.Unavailable, "%s: AWS could not be reached", what), err)
	}
	return fmt.Errorf("%w: %w", fault.New(kindOf(api), "%s: %s", what, api.ErrorMessage()), err)
}

func kindOf(api smithy.APIError) fault.Kind {
	switch api.ErrorCode() {
	case "ResourceNotFoundException":
		return fault.NotFound
	case "ValidationException", "InvalidRequestException":
		return fault.Invalid
	case "ResourceAlreadyExistsException":
		return fault.Exists
	case "ConflictException", "ConflictingResourceUpdateException", "VersionConflictException", "InvalidStateTransitionException", "RequestAlreadyInProgressException":
		return fault.Conflict
	case "ThrottlingException", "LimitExceededException", "ServiceQuotaExceededException":
		return fault.Exhausted
	case "AccessDeniedException", "UnauthorizedException":
		return fault.Denied
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return fault.Unauthenticated
	}
	return fault.Unavailable
}

// absent reports whether err says that what was asked for is not there.
func absent(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && kindOf(api) == fault.NotFound
}
