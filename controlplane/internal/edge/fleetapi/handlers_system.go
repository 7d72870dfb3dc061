package fleetapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) GetSystem(ctx context.Context, _ gen.GetSystemRequestObject) (gen.GetSystemResponseObject, error) {
	i, err := s.System.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("describing the server: %w", err)
	}
	return gen.GetSystem200ApplicationVndAwsCdfV10PlusJSONResponse{
		Version: i.Version, Commit: i.Commit, Region: i.Region, Account: i.Account, Bucket: i.Bucket, PrivateCaArn: i.PrivateCA, PrivateCaID: i.PrivateCAID, Addresses: i.Addresses,
	}, nil
}

func (s *server) GetCA(ctx context.Context, _ gen.GetCARequestObject) (gen.GetCAResponseObject, error) {
	ca, err := s.System.CA(ctx)
	if err != nil {
		return nil, fmt.Errorf("describing the CA: %w", err)
	}
	return gen.GetCA200ApplicationVndAwsCdfV10PlusJSONResponse{CaID: ca.ID, RootFingerprint: ca.RootFingerprint, IssuerFingerprint: ca.IssuerFingerprint}, nil
}

func (s *server) GetCABundle(ctx context.Context, _ gen.GetCABundleRequestObject) (gen.GetCABundleResponseObject, error) {
	ca, err := s.System.CA(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the CA bundle: %w", err)
	}
	return gen.GetCABundle200ApplicationXPemFileResponse{Body: bytes.NewReader(ca.BundlePEM), ContentLength: int64(len(ca.BundlePEM))}, nil
}

func healthy() gen.HealthyApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.HealthyApplicationVndAwsCdfV10PlusJSONResponse{Status: api.Ok}
}

func (s *server) GetHealth(context.Context, gen.GetHealthRequestObject) (gen.GetHealthResponseObject, error) {
	return gen.GetHealth200ApplicationVndAwsCdfV10PlusJSONResponse{HealthyApplicationVndAwsCdfV10PlusJSONResponse: healthy()}, nil
}

// GetReadiness answers 503 whatever is missing; the log says what, the answer
// only what may be shown.
func (s *server) GetReadiness(ctx context.Context, _ gen.GetReadinessRequestObject) (gen.GetReadinessResponseObject, error) {
	if err := s.System.Ready(ctx); err != nil {
		if errors.Is(err, fault.Unavailable) && fault.Message(err) != "" {
			return nil, err
		}
		text := fault.Message(err)
		if text == "" {
			text = "not ready; the server's log says why"
		}
		return nil, errors.Join(fault.New(fault.Unavailable, "%s", text), err)
	}
	return gen.GetReadiness200ApplicationVndAwsCdfV10PlusJSONResponse{HealthyApplicationVndAwsCdfV10PlusJSONResponse: healthy()}, nil
}

// scrape answers with the metrics handler that the composition root gave.
type scrape struct {
	handler http.Handler
	request *http.Request
}

func (m scrape) VisitGetMetricsResponse(w http.ResponseWriter) error {
	m.handler.ServeHTTP(w, m.request)
	return nil
}

func (s *server) GetMetrics(ctx context.Context, _ gen.GetMetricsRequestObject) (gen.GetMetricsResponseObject, error) {
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, errors.New("metrics: no request behind the context")
	}
	return scrape{s.Metrics, c.Request}, nil
}
