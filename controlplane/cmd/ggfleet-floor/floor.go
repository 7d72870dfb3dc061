package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// measures are what one core of a real fleet takes.
type measures struct {
	records float64 // in the store, those of the task included
	bytes   float64 // of their values
	config  []byte  // an installer configuration
	kinds   map[string]kind
}

// measureOf counts what a control plane stored for its cores.
func measureOf(ctx context.Context, dir string, cores int) (measures, error) {
	m := measures{kinds: map[string]kind{}}
	e, err := etcdstore.StartEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: dir})
	if err != nil {
		return m, err
	}
	defer e.Close()
	store, after := etcdstore.New(e.Client(), ""), ""
	for more := true; more; {
		p, err := store.List(ctx, state.Root, after, 1000)
		if err != nil {
			return m, err
		}
		for _, x := range p.Entries {
			m.records++
			m.bytes += float64(len(x.Value))
			after = x.Key
			parts := strings.SplitN(strings.TrimPrefix(x.Key, state.Root), "/", 3)
			k := m.kinds[strings.Join(parts[:min(2, len(parts))], "/")]
			k.Records, k.Keys, k.Values = k.Records+1, k.Keys+len(x.Key), k.Values+len(x.Value)
			m.kinds[strings.Join(parts[:min(2, len(parts))], "/")] = k
		}
		more = p.More
	}
	m.records, m.bytes = m.records/float64(cores), m.bytes/float64(cores)

	found := errors.New("found")
	err = filepath.WalkDir(filepath.Join(dir, "s3", "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "installerConfig.yml" {
			return err
		}
		if m.config, err = os.ReadFile(path); err != nil { //nolint:gosec // a file of the measured data
			return err
		}
		return found
	})
	if !errors.Is(err, found) {
		return m, errors.Join(errors.New("no installer configuration found"), err)
	}
	return m, nil
}

// floor holds what real provisioning cannot do without.
type floor struct {
	m       measures
	etcd    *etcdstore.Embedded
	store   state.Store
	s3      *s3store.Embedded
	objects *s3store.Store
	ca      *pki.Authority
	value   []byte // of one record
}

func open(ctx context.Context, dir string, m measures) (*floor, error) {
	f := &floor{m: m}
	now := time.Now()
	root, err := pki.NewRoot("floor root", now, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	if f.ca, err = root.NewIntermediate("floor", now, 24*time.Hour); err != nil {
		return nil, err
	}
	if f.etcd, err = etcdstore.StartEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: dir}); err != nil {
		return nil, err
	}
	f.store = etcdstore.New(f.etcd.Client(), "")
	f.s3, err = s3store.StartEmbedded(s3store.EmbeddedConfig{
		Dir: filepath.Join(dir, "s3"), Region: "us-east-1", RootKey: "floor", RootSecret: logx.NewSecret(rand.Text()),
	})
	if err == nil {
		f.objects, err = f.s3.Store("floor")
	}
	if err == nil {
		err = f.objects.EnsureBucket(ctx)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	// JSON text as the records are: random bytes would be no likeness.
	f.value = bytes.Repeat([]byte("x"), int(m.bytes/math.Max(1, math.Round(m.records))))
	f.value[0], f.value[len(f.value)-1] = '"', '"'
	return f, nil
}

func (f *floor) close() {
	if f.s3 != nil {
		_ = f.s3.Close() // what was acknowledged is on the disk
	}
	f.etcd.Close()
}

// batch is how many cores share the commits of the task: their inputs, the claim
// and the end.
const batch = 99

// provision returns the number of commits.
func (f *floor) provision(ctx context.Context, cores, workers int) (int, error) {
	next, failed := make(chan int), make(chan error, workers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for n := range next {
				if err := f.core(ctx, n); err != nil {
					failed <- fmt.Errorf("core %d: %w", n, err)
					cancel()
					return
				}
			}
		})
	}
	commits := 0
feed:
	for n := range cores {
		if n%batch == 0 {
			for part := range 3 {
				if err := f.commit(ctx, fmt.Sprintf("floor/batch/%06d/%d", n, part), 1); err != nil {
					failed <- err
					break feed
				}
				commits++
			}
		}
		select {
		case next <- n:
			commits++
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	select {
	case err := <-failed:
		return commits, err
	default:
		return commits, nil
	}
}

// core makes one core: key, certificate, archive, two objects, one commit.
func (f *floor) core(ctx context.Context, n int) error {
	name := fmt.Sprintf("bench-%06d", n)
	archive, err := f.certs(name)
	if err != nil {
		return err
	}
	for _, o := range []struct {
		step state.Step
		file string
		data []byte
	}{{state.PutCerts, "certs.zip", archive}, {state.PutConfig, "installerConfig.yml", f.m.config}} {
		key := "greengrass2/artifacts/" + name + "/" + name + "/" + o.file
		if err := f.objects.Put(ctx, o.step, key, bytes.NewReader(o.data), int64(len(o.data)), "text/plain"); err != nil {
			return err
		}
	}
	return f.commit(ctx, "floor/core/"+name, max(1, int(math.Round(f.m.records))))
}

func (f *floor) commit(ctx context.Context, key string, records int) error {
	b := state.NewBatch(state.StepCoreRegister)
	for i := range records {
		k := fmt.Sprintf("%s%s/%d", state.Root, key, i)
		b.If(k, 0).Put(k, rawJSON(f.value))
	}
	_, err := f.store.Commit(ctx, b)
	return err
}

// rawJSON is a value that is JSON already.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func (f *floor) certs(name string) ([]byte, error) {
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	der, err := f.ca.SignClient(pki.Client{Subject: pkix.Name{CommonName: name}, Public: key.Public(), NotAfter: now.Add(time.Hour)}, now)
	if err != nil {
		return nil, err
	}
	private, err := pki.MarshalKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, x := range []struct {
		name string
		data []byte
	}{{"certs/cert.pem", pki.EncodeCert(der)}, {"certs/private.key", private}} {
		w, err := z.Create(x.name)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(x.data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
