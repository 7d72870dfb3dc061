package app

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/greengrassapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/iotapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/stsapi"
)

// awsServer serves every AWS-compatible API.
func (a *App) awsServer() (*http.Server, error) {
	verifier, err := sigv4.New(sigv4.Config{Secrets: awsSecrets{a.keys, a.sessions}})
	if err != nil {
		return nil, err
	}
	auth := signatures{verifier}
	greengrass, err := greengrassapi.New(greengrassapi.Config{
		Greengrass: a.greengrass, Components: a.components, Registry: a.registry, URLs: a.signer, Realm: a.cfg.realm(),
		Auth: auth, Rate: a.cfg.AWSRate, Observe: a.aws.observe, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	iot, err := iotapi.New(iotapi.Config{
		Registry: a.registry, Greengrass: a.greengrass, Jobs: a.jobs, Claims: a.claims, Registrar: a.registrar, Realm: a.cfg.realm(), Host: a.cfg.PublicHost,
		Auth: auth, Rate: a.cfg.AWSRate, Observe: a.aws.observe, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	sts, err := stsapi.New(stsapi.Config{Verifier: verifier, Realm: a.cfg.realm(), RoleAlias: a.cfg.RoleAlias, Observe: a.aws.observe, Log: a.log})
	if err != nil {
		return nil, err
	}
	s3 := awsapi.ExternalS3(a.cfg.S3Endpoint)
	if a.s3 != nil {
		s3 = a.s3.Proxy()
	}
	return awsapi.NewServer(awsapi.New(awsapi.Config{Log: a.log, Services: map[string]http.Handler{
		awsapi.ServiceS3: s3, awsapi.ServiceGreengrass: greengrass, awsapi.ServiceSTS: sts,
		awsapi.ServiceIoT: iot, awsapi.ServiceExecuteAPI: iot, // older clients sign IoT's control plane so
	}}), a.log), nil
}

// signatures lets whoever signed with an access key of this server call.
type signatures struct{ verifier *sigv4.Verifier }

// Authenticate implements rest.Authenticator.
func (s signatures) Authenticate(r *http.Request, payload func() (string, error)) (rest.Caller, error) {
	c, err := s.verifier.Verify(r.Context(), r, payload)
	if err == nil {
		err = c.Allowed(access.Viewer)
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return rest.Caller{}, rest.Fail(http.StatusForbidden, e.Code, e.Message, nil)
	}
	return rest.Caller{AccessKey: c.AccessKey, ReadOnly: !c.Role.Includes(access.Operator)}, err
}

// awsMetrics counts the requests to the AWS-compatible APIs but S3.
type awsMetrics struct{ seconds *prometheus.HistogramVec }

func newAWSMetrics() *awsMetrics {
	return &awsMetrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "ggfleet", Name: "aws_request_seconds", Help: "Requests to the AWS-compatible APIs but S3.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5},
	}, []string{"service", "operation", "status"})}
}

// observe counts one request. There are no more operations than in the tables.
func (m *awsMetrics) observe(service, operation string, status int, took time.Duration) {
	m.seconds.WithLabelValues(service, operation, strconv.Itoa(status)).Observe(took.Seconds())
}
