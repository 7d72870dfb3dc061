package app_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/app"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store/s3test"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func refused(t *testing.T, cfg app.Config) error {
	t.Helper()
	a, err := app.New(t.Context(), cfg, nil)
	if err == nil {
		a.Close()
	}
	require.Error(t, err)
	return err
}

func TestWhatKeepsItFromStartingNamesTheWayOut(t *testing.T) {
	t.Run("a taken port", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		cfg := config(t, t.TempDir(), "--mqtt-addr", l.Addr().String())
		err = refused(t, cfg)
		for _, s := range []string{l.Addr().String(), "taken", "--mqtt-addr"} {
			assert.ErrorContains(t, err, s)
		}
	})
	t.Run("a data directory that is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		err := refused(t, config(t, filepath.Join(file, "data")))
		assert.ErrorContains(t, err, file)
		assert.ErrorContains(t, err, "--data-dir")
	})
	t.Run("an unwritable data directory", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0o500))
		err := refused(t, config(t, dir))
		assert.ErrorContains(t, err, dir)
		assert.ErrorContains(t, err, "--data-dir")
	})
	t.Run("a second process on the same data", func(t *testing.T) {
		dir := t.TempDir()
		first := serve(t, config(t, dir))
		err := refused(t, config(t, dir))
		assert.ErrorContains(t, err, dir)
		status, _, _ := first.call(http.MethodGet, "/readyz", "")
		assert.Equal(t, http.StatusOK, status, "the first is not disturbed")
		first.stop()
	})
	t.Run("an etcd that is not there", func(t *testing.T) {
		cfg := config(t, t.TempDir(), "--etcd-endpoints", "127.0.0.1:1", "--s3-endpoint", "http://127.0.0.1:1", "--s3-access-key", "a", "--s3-secret-key", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := app.New(ctx, cfg, nil)
		require.ErrorContains(t, err, "127.0.0.1:1")
	})
}

// dump is all that the embedded store of a stopped control plane holds.
func dump(t *testing.T, dir string) map[string]string {
	t.Helper()
	e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
	require.NoError(t, err)
	defer e.Close()
	page, err := etcdstore.New(e.Client(), "").List(t.Context(), "", "", 0)
	require.NoError(t, err)
	out := map[string]string{}
	for _, x := range page.Entries {
		out[x.Key] = string(x.Value)
	}
	return out
}

func TestTheFirstStartMakesAllAndTheSecondChangesNothing(t *testing.T) {
	dir := t.TempDir()
	r := serve(t, config(t, dir))
	assert.NotContains(t, r.logs.String(), `"level":"ERROR"`)
	secret := map[string]string{}
	for name, mode := range map[string]os.FileMode{"admin.token": 0o600, "seal.key": 0o600, "ca.pem": 0o644, "ca.id": 0o644} {
		i, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, i.Mode().Perm(), name)
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		secret[name] = string(b)
	}
	assert.NotContains(t, r.logs.String(), strings.TrimSpace(secret["admin.token"]))
	for path, says := range map[string]string{
		"/healthz": "", "/readyz": "", "/ca.pem": "BEGIN CERTIFICATE", "/ca": strings.TrimSpace(secret["ca.id"]),
		"/provisioningTemplates": `"default"`, "/components": "aws.greengrass.TokenExchangeService", "/metrics": "ggfleet_cores 0",
		"/fleet/summary": `"templates"`, "/system": r.addresses["device"],
	} {
		status, _, body := r.call(http.MethodGet, path, "")
		assert.Equal(t, http.StatusOK, status, path)
		assert.Contains(t, string(body), says, path)
	}
	r.stop()
	first := dump(t, dir)
	for _, key := range []string{"iot/policy/" + app.CorePolicy, "iot/policy/" + app.TokenExchangePolicy, "iot/rolealias/" + app.DefaultRoleAlias, "iot/default-ca"} {
		assert.Contains(t, first, "/ggfleet/v1/"+key)
	}

	again := serve(t, config(t, dir))
	status, _, body := again.call(http.MethodGet, "/provisioningTemplates", "")
	assert.Equal(t, http.StatusOK, status, "the token of the first start is good: %s", body)
	again.stop()
	assert.Equal(t, first, dump(t, dir))
	for name, content := range secret {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, content, string(b), name)
	}
}

func TestItStopsInTimeWhateverIsOpen(t *testing.T) {
	r := serve(t, config(t, t.TempDir()))
	half, err := net.Dial("tcp", strings.TrimPrefix(r.addresses["api"], "http://"))
	require.NoError(t, err)
	defer func() { _ = half.Close() }()
	_, err = half.Write([]byte("POST /components HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf a body"))
	require.NoError(t, err)
	silent, err := net.Dial("tcp", r.addresses["mqtt"]) // never begins its handshake
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	device, err := tls.Dial("tcp", strings.TrimPrefix(r.addresses["device"], "https://"), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer func() { _ = device.Close() }()
	asked, hang := make(chan struct{}, 16), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hang
	}))
	defer hook.Close()
	defer close(hang)
	status, _, body := r.call(http.MethodPost, "/webhooks", `{"url":"`+hook.URL+`"}`)
	require.Equal(t, http.StatusCreated, status, "%s", body)
	follow, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.addresses["api"]+"/events/stream", nil)
	require.NoError(t, err)
	token, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "admin.token"))
	require.NoError(t, err)
	follow.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	stream, err := http.DefaultClient.Do(follow)
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	status, _, body = r.call(http.MethodPost, "/coreTasks", `{"type":"Create","coreVersion":"2.5.0","cores":[{"name":"gw-1","provisioningTemplate":"default",
		"provisioningParameters":{"ThingName":"gw-1"},"cdfProvisioningParameters":{"certInfo":{"country":"US"}}}]}`)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	<-asked

	stopped := make(chan struct{})
	go func() {
		r.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(2 * time.Minute): // nothing of what is open ends by itself
		assert.Fail(t, "it still runs")
		<-stopped
	}
}

func TestOffLoopbackItSpeaksTLS(t *testing.T) {
	r := serve(t, config(t, t.TempDir(), "--http-addr", "0.0.0.0:0", "--aws-addr", "0.0.0.0:0"))
	assert.True(t, strings.HasPrefix(r.addresses["api"], "https://localhost:"))
	assert.True(t, strings.HasPrefix(r.addresses["aws"], "https://localhost:"))
	status, _, _ := r.call(http.MethodGet, "/healthz", "")
	assert.Equal(t, http.StatusOK, status)
	res, err := http.Get(strings.Replace(r.addresses["api"], "https", "http", 1) + "/healthz")
	if err == nil {
		_ = res.Body.Close()
		assert.Equal(t, http.StatusBadRequest, res.StatusCode, "plain HTTP is told to use TLS")
	}
}

const recipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.App","ComponentVersion":"1.0.0","Manifests":[{"Platform":{"os":"linux"},"Lifecycle":{"run":"true"},"Artifacts":[]}]}`

type item struct {
	Name, TaskStatus, StatusMessage string
}

// identity pulls the certificate and key of a core from the object store.
func identity(t *testing.T, archive []byte) tls.Certificate {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	read := func(name string) []byte {
		f, err := z.Open(name)
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		return b
	}
	cert, err := tls.X509KeyPair(read("certs/cert.pem"), read("certs/private.key"))
	require.NoError(t, err)
	return cert
}

// The whole job over an etcd and an S3 in processes of their own, with a restart
// in the middle.
func TestTheMainJobOverExternalStores(t *testing.T) {
	s3, etcd := s3test.Start(t), etcdtest.StartProcess(t)
	cfg := config(t, t.TempDir(), "--etcd-endpoints", etcd, "--s3-endpoint", "http://"+s3.Endpoint, "--s3-access-key", s3test.AccessKey, "--s3-secret-key", s3test.Secret)
	r := serve(t, cfg)
	status, _, body := r.call(http.MethodPost, "/components", recipe)
	require.Equal(t, http.StatusCreated, status, "%s", body)
	status, head, body := r.call(http.MethodPost, "/coreTasks", `{"type":"Create","coreVersion":"2.18.0","cores":[{"name":"gw","provisioningTemplate":"default","provisioningParameters":{"ThingName":"gw"},"cdfProvisioningParameters":{"certInfo":{"country":"DE"}},"configFileGenerator":"MANUAL_INSTALL"}]}`)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	type task struct {
		TaskStatus  string
		Cores       []item
		Deployments []item
	}
	ended := func(v task) bool { return v.TaskStatus == "Success" || v.TaskStatus == "Failure" }
	made := get(r, "/coreTasks/"+head.Get("x-taskid"), ended)
	require.Equal(t, "Success", made.TaskStatus, "%+v", made)

	objects := s3.Config("ggfleet")
	archive := object(t, objects, "greengrass2/artifacts/gw/gw/certs.zip")
	cert := identity(t, archive)
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(cfg.DataDir, "ca.pem"))
	require.NoError(t, err)
	pool.AppendCertsFromPEM(pem)
	d := dial(t, r.addresses["mqtt"], cert, pool, "gw")
	d.publish(protocol.FleetStatusTopic("gw"), `{"ggcVersion":"2.18.0","platform":"linux","architecture":"amd64","thing":"gw","sequenceNumber":0,"timestamp":1,"messageType":"COMPLETE","trigger":"NUCLEUS_LAUNCH","overallDeviceStatus":"HEALTHY","components":[]}`)
	type core struct {
		Device   struct{ Status string }
		Template struct {
			Reported struct {
				Name             string
				Version          int
				DeploymentStatus string
			}
		}
	}
	get(r, "/cores/gw", func(c core) bool { return c.Device.Status == "HEALTHY" })

	r.stop()
	r = serve(t, cfg) // another process finds everything
	d = dial(t, r.addresses["mqtt"], cert, pool, "gw")
	notify := protocol.JobsNotifyNext("gw")
	d.subscribe(notify)
	d.subscribe(protocol.JobGet("gw", "$next") + "/+")
	d.publish(protocol.JobGet("gw", "$next"), `{}`)
	d.await(protocol.Accepted(protocol.JobGet("gw", "$next")))

	status, _, body = r.call(http.MethodPost, "/templates", `{"name":"t","components":[{"key":"com.example.App","version":"1.0.0"}]}`)
	require.Equal(t, http.StatusCreated, status, "%s", body)
	status, head, body = r.call(http.MethodPost, "/deploymentTasks", `{"template":{"name":"t"},"targets":{"thingNames":["gw"]}}`)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	started := get(r, "/deploymentTasks/"+head.Get("x-taskid"), ended)
	require.Equal(t, "Success", started.TaskStatus, "%+v", started)
	var next protocol.JobAnswer
	require.NoError(t, json.Unmarshal(d.await(notify), &next))
	var doc protocol.DeploymentDocument
	require.NoError(t, json.Unmarshal(next.Execution.JobDocument, &doc))
	assert.Equal(t, "1.0.0", doc.Components["com.example.App"].Version)
	update := protocol.JobUpdate("gw", next.Execution.JobID)
	d.subscribe(update + "/+")
	d.publish(update, `{"status":"IN_PROGRESS","clientToken":"x"}`)
	assert.Contains(t, string(d.await(protocol.Accepted(update))), `"clientToken":"x"`)
	d.publish(update, `{"status":"SUCCEEDED"}`)
	d.await(protocol.Accepted(update))
	assert.NotContains(t, string(d.await(notify)), "execution")
	c := get(r, "/cores/gw", func(c core) bool { return c.Template.Reported.DeploymentStatus == "Success" })
	assert.Equal(t, "t", c.Template.Reported.Name)

	device := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}}
	defer device.CloseIdleConnections()
	res, err := device.Get("https://" + strings.TrimPrefix(r.addresses["device"], "https://") + "/greengrass/v2/coreDevices/gw/thingGroups")
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Contains(t, string(b), "cdf_ggv2_deploymentForTemplate_t_1")
	r.stop()
	assert.NotContains(t, fmt.Sprint(r.logs), `"level":"ERROR"`)
}

func TestSIGTERMStopsTheCommand(t *testing.T) {
	t.Chdir(".") // see serve
	cfg := config(t, t.TempDir())
	logs := &records{ready: make(chan map[string]string, 1)}
	done := make(chan error, 1)
	go func() { done <- app.Serve(context.WithoutCancel(t.Context()), cfg, logs) }()
	select {
	case <-logs.ready:
	case err := <-done:
		require.FailNow(t, "it ended", "%v", err)
	}
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	require.NoError(t, <-done)
	assert.Contains(t, logs.String(), `"msg":"stopped"`)
}
