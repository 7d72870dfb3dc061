package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/faultpoint"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func (a *App) dialState(ctx context.Context) (state.Store, error) {
	if len(a.cfg.EtcdEndpoints) == 0 {
		e, err := etcdstore.StartEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: a.cfg.DataDir, Log: a.log})
		if err != nil {
			return nil, fmt.Errorf("open store of record: %w", err)
		}
		a.etcd = e
		a.onClose(e.Close)
		return e.Store(), nil
	}
	cfg := etcdstore.DialConfig{Endpoints: a.cfg.EtcdEndpoints, Username: a.cfg.EtcdUsername, Password: logx.NewSecret(a.cfg.EtcdPassword), Log: a.log}
	if a.cfg.EtcdCA != "" {
		pem, err := os.ReadFile(a.cfg.EtcdCA)
		if err != nil {
			return nil, fmt.Errorf("read etcd-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd-ca %s holds no certificate", a.cfg.EtcdCA)
		}
		cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	c, err := etcdstore.Dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", a.cfg.EtcdEndpoints, err)
	}
	a.onClose(func() { _ = c.Close() }) // nothing more to be done at the end
	return etcdstore.New(c, ""), nil
}

// withFaults puts the fault points of test builds around the store, and the hub
// that feeds this process's mirrors around all.
func withFaults(s state.Store) (state.Store, error) {
	p, err := faultpoint.FromEnv()
	if err != nil {
		return nil, err
	}
	return state.NewHub(faultpoint.Store(s, p)), nil
}

func (a *App) openObjects(ctx context.Context) error {
	store, err := a.dialObjects(ctx)
	if err != nil {
		return err
	}
	if err := store.EnsureBucket(ctx); err != nil {
		return fmt.Errorf("artifact store: %w", err)
	}
	p, err := faultpoint.FromEnv()
	if err != nil {
		return err
	}
	a.objects = faultpoint.Objects(store, p)
	return nil
}

func (a *App) dialObjects(ctx context.Context) (*s3store.Store, error) {
	if a.cfg.S3Endpoint != "" {
		u, err := url.Parse(a.cfg.S3Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("s3-endpoint %q must be a URL such as https://s3.example:9000", a.cfg.S3Endpoint)
		}
		return s3store.New(s3store.Config{
			Endpoint: u.Host, Secure: u.Scheme == "https", Bucket: a.cfg.S3Bucket, Region: a.cfg.Region,
			AccessKey: a.cfg.S3AccessKey, SecretKey: logx.NewSecret(a.cfg.S3SecretKey), PathStyle: a.cfg.S3PathStyle,
		})
	}
	root, err := a.keys.Root(ctx)
	if err != nil {
		return nil, fmt.Errorf("key of the artifact store: %w", err)
	}
	e, err := s3store.StartEmbedded(s3store.EmbeddedConfig{
		Dir: a.file("s3"), Region: a.cfg.Region, RootKey: root.ID, RootSecret: root.Secret, Accounts: bucketKeys{a.keys}, NoFsync: !a.cfg.S3Fsync, Log: a.log,
	})
	if err != nil {
		return nil, fmt.Errorf("start artifact store: %w", err)
	}
	a.s3 = e
	a.onClose(func() { _ = e.Close() }) // what was acknowledged is on the disk
	return e.Store(a.cfg.S3Bucket)
}
