package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// DialConfig names an etcd outside. Endpoints is required.
type DialConfig struct {
	Endpoints []string    // host:port, or URLs with http:// or https://
	TLS       *tls.Config // nil: plain text; versions below 1.2 are never spoken
	Username  string      // empty: no authentication
	Password  logx.Secret
	Log       *slog.Logger // nil: nothing is logged
}

// Dial connects to an etcd outside and asks it for its state, so that a wrong
// address or password is known at start. It returns fault.Unavailable if none
// of the endpoints answers within 10 s. The caller closes the client.
func Dial(ctx context.Context, cfg DialConfig) (*clientv3.Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("etcd: at least one endpoint is required")
	}
	c := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		Username:             cfg.Username,
		Password:             cfg.Password.Reveal(),
		DialTimeout:          callTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.New(bridge(cfg.Log)),
	}
	if cfg.TLS != nil {
		c.TLS = cfg.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS12)
	}
	where := strings.Join(cfg.Endpoints, ",")
	client, err := clientv3.New(c)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", where, classify(ctx, err))
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := client.Get(ctx, "/", clientv3.WithCountOnly()); err != nil {
		_ = client.Close()
		err = classify(ctx, err)
		if errors.Is(err, fault.Unavailable) {
			return nil, fmt.Errorf("no answer from etcd at %s, check the endpoints and that TLS is the same on both sides: %w", where, err)
		}
		return nil, fmt.Errorf("connect to etcd at %s: %w", where, err)
	}
	return client, nil
}
