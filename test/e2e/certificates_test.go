package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// aged is a certificate of a device's own that has nearly ended.
func aged(t *testing.T, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// put writes files below dir, and returns their paths.
func put(t *testing.T, dir string, files map[string][]byte) func(name string) string {
	t.Helper()
	for name, b := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

// thingCertificates are the statuses of a thing's certificates, by PEM.
func thingCertificates(t *testing.T, w *world.World, thing string) map[string]string {
	t.Helper()
	var d struct {
		Certificates []struct {
			PEM    string `json:"certificatePem"`
			Status string `json:"certificateStatus"`
		} `json:"certificates"`
	}
	w.Call(t, http.MethodGet, "/things/"+thing, nil, &d)
	out := map[string]string{}
	for _, c := range d.Certificates {
		out[c.PEM] = c.Status
	}
	return out
}

// settled says what is missing until the thing has one ACTIVE certificate, the one in
// the file, which fits its key and is none of those before. It returns the file.
func settled(t *testing.T, w *world.World, thing, cert, key string, before ...string) (now string) {
	t.Helper()
	world.Eventually(t, func() string {
		c, err := os.ReadFile(cert)
		if err != nil {
			return err.Error()
		}
		k, err := os.ReadFile(key)
		if err != nil {
			return err.Error()
		}
		if _, err := tls.X509KeyPair(c, k); err != nil {
			return err.Error()
		}
		now = string(c)
		for _, b := range before {
			if b == now {
				return thing + " has its old certificate"
			}
		}
		for text, status := range thingCertificates(t, w, thing) {
			if (status == "ACTIVE") != (text == now) {
				return fmt.Sprintf("a certificate of %s is %s; the one in use: %t", thing, status, text == now)
			}
		}
		return ""
	})
	return now
}

var asked = regexp.MustCompile(`let in: key ([0-9a-f]{64})`)

// TestDevicesAreLetInAndKeepTheirCertificates: agents that were built to look at
// certificates each second.
func TestDevicesAreLetInAndKeepTheirCertificates(t *testing.T) {
	const own, claimed, gauge = "press-07", "press-09", "gauge-1"
	dir := t.TempDir()
	w := world.Start(t, world.Options{Flags: []string{"--agent-certificate-life", "90s"}})
	offerNucleus(t, w)
	program := buildAgentWith(t, dir, "1.0.0", "500ms 20s 2s 2s 1s 200ms")
	w.Call(t, http.MethodPut, "/provisioningTemplates/own", thingTemplate("CertificateId", "CertificateId", object{"registerDeviceCertificateWithoutCA": true}), nil)
	agentOf := func(name string) *agentProcess {
		a := &agentProcess{program: program, root: filepath.Join(dir, name), log: filepath.Join(dir, name+".log")}
		t.Cleanup(func() { a.end(t) })
		return a
	}
	run := func(a *agentProcess, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, append([]string{"enroll", "--url", "https://" + w.Device, "--ca", w.CAFile, "--root", a.root}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	withOwn := func(name string, cert []byte) object {
		return object{
			"name": name, "provisioningTemplate": "own", "provisioningParameters": object{"ThingName": name},
			"cdfProvisioningParameters": object{"certificatePem": string(cert), "certificateStatus": "ACTIVE"},
		}
	}

	// A device that was delivered with a certificate, which has nearly ended.
	cert, key := aged(t, own)
	core := withOwn(own, cert)
	core["configFileGenerator"] = "MANUAL_INSTALL"
	task := w.WaitTask(t, w.Call(t, http.MethodPost, "/coreTasks", object{"type": "Create", "coreVersion": nucleusVersion, "cores": []any{core}}, nil).Header.Get("Location"))
	require.Equal(t, "Success", task.Status, "%+v", task)
	press := agentOf(own)
	at := put(t, press.root, map[string][]byte{"cert.pem": cert, "private.key": key})
	run(press, "--cert", at("cert.pem"), "--key-file", at("private.key"))
	firstAgent := thingCertificates(t, w, own+":agent")
	require.Len(t, firstAgent, 1)
	press.start(t)
	world.Eventually(t, func() string { return show(t, w, own).whole() })
	renewed := settled(t, w, own, at("cert.pem"), at("private.key"), string(cert))
	assert.Equal(t, "INACTIVE", thingCertificates(t, w, own)[string(cert)])
	world.Eventually(t, func() string {
		for text := range firstAgent {
			if status := thingCertificates(t, w, own+":agent")[text]; status == "ACTIVE" {
				return "the agent's first certificate is " + status
			}
		}
		return show(t, w, own).whole()
	})

	// Its files are lost.
	require.NoError(t, os.Remove(at("cert.pem")))
	require.NoError(t, os.Remove(at("private.key")))
	settled(t, w, own, at("cert.pem"), at("private.key"), string(cert), renewed)
	world.Eventually(t, func() string { return show(t, w, own).whole() })

	// A core that nobody has heard of, with a claim that the AWS SDK made.
	access := w.NewAccessKey(t)
	sdk := iot.New(iot.Options{
		Region: access.Region, BaseEndpoint: aws.String(w.AWS), Credentials: credentials.NewStaticCredentialsProvider(access.ID, access.Secret, ""),
	})
	claim, err := sdk.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	w.Call(t, http.MethodPut, "/enrollmentRules/line", object{
		"action": "approve", "names": []string{"press-*"}, "ways": []string{"claim"}, "create": object{"coreVersion": nucleusVersion, "configFileGenerator": "MANUAL_INSTALL"},
	}, nil)
	second := agentOf(claimed)
	in := put(t, dir, map[string][]byte{"claim.pem": []byte(*claim.CertificatePem), "claim.key": []byte(*claim.KeyPair.PrivateKey)})
	run(second, "--name", claimed, "--claim-cert", in("claim.pem"), "--claim-key", in("claim.key"))
	second.start(t)
	world.Eventually(t, func() string { return show(t, w, claimed).whole() })

	// A client device of the first core, which says where it is reached; somebody lets
	// it in.
	cert, key = aged(t, gauge)
	task = w.WaitTask(t, w.Call(t, http.MethodPost, "/cores/"+own+"/deviceTasks", object{"type": "Create", "devices": []any{withOwn(gauge, cert)}}, nil).Header.Get("Location"))
	require.Equal(t, "Success", task.Status, "%+v", task)
	pair, err := tls.LoadX509KeyPair(at("cert.pem"), at("private.key"))
	require.NoError(t, err)
	reported, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+w.Device+"/greengrass/things/"+own+"/connectivityInfo",
		strings.NewReader(`{"ConnectivityInfo":[{"Id":"a","HostAddress":"192.0.2.7","PortNumber":8883,"Metadata":""}]}`))
	require.NoError(t, err)
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: w.TLS(pair)}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(reported)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)

	device := agentOf(gauge)
	on := put(t, filepath.Join(device.root, "device"), map[string][]byte{"identities/first/cert.pem": cert, "identities/first/private.key": key})
	require.NoError(t, os.Symlink("identities/first", on("identity")))
	waiting := exec.CommandContext(t.Context(), program, "enroll", "--url", "https://"+w.Device, "--ca", w.CAFile, "--root", device.root, "--role", "client", "--name", gauge)
	log, err := os.Create(in("waiting.log"))
	require.NoError(t, err)
	defer log.Close()
	waiting.Stdout, waiting.Stderr = log, log
	require.NoError(t, waiting.Start())
	var request [][]byte
	world.Eventually(t, func() string {
		b, _ := os.ReadFile(in("waiting.log"))
		if request = asked.FindSubmatch(b); request == nil {
			return "it does not wait: " + string(bytes.TrimSpace(b))
		}
		return ""
	})
	_ = waiting.Process.Kill() // the service goes on with it
	_ = waiting.Wait()
	w.Call(t, http.MethodPost, "/enrollmentRequests/"+string(request[1])+"/approve", object{"reason": "ticket 4711"}, nil)
	device.start(t)
	settled(t, w, gauge, on("identity/cert.pem"), on("identity/private.key"), string(cert))
	world.Eventually(t, func() string {
		var c struct {
			ThingName string
			Cores     []struct {
				ThingName string
				Endpoints []struct {
					Host string
					Port int
				}
			}
		}
		b, err := os.ReadFile(on("client.json"))
		if err != nil {
			return err.Error()
		}
		if err := json.Unmarshal(b, &c); err != nil || c.ThingName != gauge || len(c.Cores) != 1 || c.Cores[0].ThingName != own || len(c.Cores[0].Endpoints) != 1 {
			return string(b)
		}
		assert.Equal(t, "192.0.2.7", c.Cores[0].Endpoints[0].Host)
		return ""
	})
}
