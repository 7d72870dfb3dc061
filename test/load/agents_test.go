package load_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// TestAgents measures many agents against one control plane: light ones, which
// speak as the true one does: they enrol, connect with a will, subscribe to
// notices, report everything, and ask for their assignment.
func TestAgents(t *testing.T) {
	n := size(t, "AGENTS", 5000, 20)
	lasts := 10 * time.Second
	if !full() {
		lasts = 200 * time.Millisecond
	}
	w, profiles := start(t)
	names := coreNames(n)
	provision(t, w, names)
	agents := make([]*lightAgent, n)
	var failed errorOnce
	began := time.Now()
	parallel(n, 32, func(i int) {
		var err error
		agents[i], err = enrollLight(t, w, names[i], simulator.SpreadIP(i))
		failed.set(err)
	})
	require.NoError(t, failed.get())
	row(t, "agents enrol, "+strconv.Itoa(n), fmt.Sprintf("%.0f/s", float64(n)/time.Since(began).Seconds()), "", "", "")
	floor := handshakes(t, min(n, 1000))

	before, cpu := rss(t, w.PID()), used(t, w.PID()).cpu
	storm := func() time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for _, a := range agents {
			wg.Go(func() { failed.set(a.come(w)) })
		}
		wg.Wait()
		took := time.Since(began)
		require.NoError(t, failed.get())
		connected(t, w, n)
		return took
	}
	t.Cleanup(func() {
		for _, a := range agents {
			a.close()
		}
	})
	var took time.Duration
	profile(t, profiles, "agents-storm", func() { took = storm() })
	cpu = used(t, w.PID()).cpu - cpu
	perSecond := float64(n) / took.Seconds()
	row(t, "agents connect at once and say everything, "+strconv.Itoa(n), fmt.Sprintf("%.0f/s, %.1f ms CPU each, all after %.1f s", perSecond, ms(cpu)/float64(n), took.Seconds()),
		fmt.Sprintf("%.0f/s (two bare handshakes each)", floor/2), fmt.Sprintf("%.2f", perSecond/(floor/2)), "")
	row(t, "memory of an agent at rest", fmt.Sprintf("%.0f KB", (rss(t, w.PID())-before)*1024/float64(n)), "", "", "100 KB")

	measure := func(name, kind string) (float64, string) {
		var count atomic.Int64
		cpu := used(t, w.PID()).cpu
		var took time.Duration
		profile(t, profiles, name, func() {
			began := time.Now()
			end := began.Add(lasts)
			var wg sync.WaitGroup
			for _, a := range agents {
				wg.Go(func() {
					failed.set(a.session.publish(end, &count, func(*publisher, int) (string, []byte) {
						return a.subject.ReportTopic(kind), a.report(protocol.ReportHealth)
					}))
				})
			}
			wg.Wait()
			took = time.Since(began)
		})
		require.NoError(t, failed.get(), name)
		cpu = used(t, w.PID()).cpu - cpu
		perSecond := float64(count.Load()) / took.Seconds()
		return perSecond, fmt.Sprintf("%.0f/s, %.0f µs CPU", perSecond, float64(cpu.Microseconds())/float64(max(1, count.Load())))
	}
	nobody, nobodyText := measure("agents-nobody", "unknown") // a kind that the control plane passes over
	reports, reportsText := measure("agents-reports", protocol.ReportHealth)
	row(t, "agents' health reports, QoS 1, "+strconv.Itoa(n)+" connections", reportsText, nobodyText, fmt.Sprintf("%.2f", reports/nobody), "0.5")

	idle := used(t, w.PID()).cpu
	quiet := time.NewTimer(lasts)
	<-quiet.C
	row(t, "control plane with "+strconv.Itoa(n)+" idle agents", fmt.Sprintf("%.2f %% of a CPU", 100*(used(t, w.PID()).cpu-idle).Seconds()/lasts.Seconds()), "", "", "")

	began = time.Now()
	w.Kill9(t)
	w.Restart(t)
	up := time.Now()
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() { failed.set(a.comeBack(t.Context(), w)) })
	}
	wg.Wait()
	require.NoError(t, failed.get())
	connected(t, w, n)
	row(t, "all agents are back after kill -9, "+strconv.Itoa(n), fmt.Sprintf("%.1f s after the restart, %.1f s after the kill", time.Since(up).Seconds(), time.Since(began).Seconds()),
		fmt.Sprintf("%.1f s (bare handshakes)", float64(2*n)/floor), fmt.Sprintf("%.1f", time.Since(up).Seconds()*floor/float64(2*n)), "")
}

// connected waits until the fleet summary counts n agents with a session.
func connected(t *testing.T, w *world.World, n int) {
	t.Helper()
	world.Eventually(t, func() string {
		var s struct {
			Agents struct{ Connected, Offline int } `json:"agents"`
		}
		w.Call(t, http.MethodGet, "/fleet/summary", nil, &s)
		if s.Agents.Connected != n {
			return fmt.Sprintf("%d of %d agents are connected", s.Agents.Connected, n)
		}
		return ""
	})
}

// lightAgent speaks as an agent does and keeps nothing on disk.
type lightAgent struct {
	subject  protocol.Subject
	tls      *tls.Config
	from     netip.Addr
	session  *publisher
	sequence uint64
}

// enrollLight enrols the agent of a core with an activation.
func enrollLight(t *testing.T, w *world.World, core string, from netip.Addr) (*lightAgent, error) {
	a := &lightAgent{subject: protocol.Subject{Role: protocol.RoleCore, Name: core}, from: from}
	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
	e, err := protocol.ParseEnrollment(activation.Enrollment)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: protocol.AgentThing(core)}}, key)
	if err != nil {
		return nil, err
	}
	a.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.Roots, ServerName: "localhost"}
	body, err := json.Marshal(protocol.EnrollRequest{
		ActivationID: e.ActivationID, Code: e.Code, CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	})
	if err != nil {
		return nil, err
	}
	var out protocol.EnrollResponse
	if err := a.https(w, http.MethodPost, protocol.PathEnroll, body, &out); err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for rest := []byte(out.CertificatePEM); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		cert.Certificate = append(cert.Certificate, b.Bytes)
	}
	a.tls.Certificates = []tls.Certificate{cert}
	return a, nil
}

// https makes one call on a connection of its own, as an agent does that asks
// seldom.
func (a *lightAgent) https(w *world.World, method, path string, body []byte, out any) error {
	transport := &http.Transport{
		DialContext: a.dialer().DialContext, TLSClientConfig: a.tls, DisableKeepAlives: true,
	}
	req, err := http.NewRequest(method, "https://"+w.Device+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s for %s: %d %s", method, path, a.subject.Name, resp.StatusCode, b)
	}
	return json.Unmarshal(b, out)
}

func (a *lightAgent) dialer() *net.Dialer {
	return &net.Dialer{Timeout: 2 * time.Minute, LocalAddr: &net.TCPAddr{IP: a.from.AsSlice()}}
}

// come connects, listens, says everything and asks for the assignment.
func (a *lightAgent) come(w *world.World) error {
	if err := a.connect(w); err != nil {
		return err
	}
	for _, kind := range []string{protocol.ReportConnection, protocol.ReportHost, protocol.ReportHealth, protocol.ReportNucleus, protocol.ReportComponents} {
		p := mqttwire.Packet{Type: mqttwire.Publish, ID: 7, QoS: 1, Topic: a.subject.ReportTopic(kind), Payload: a.report(kind)}
		if err := a.ask(p, mqttwire.Puback); err != nil {
			return err
		}
	}
	var assignment protocol.CoreAssignment
	return a.https(w, http.MethodGet, protocol.PathAgentCore, nil, &assignment)
}

func (a *lightAgent) connect(w *world.World) error {
	thing := protocol.AgentThing(a.subject.Name)
	conn, err := (&tls.Dialer{NetDialer: a.dialer(), Config: a.tls}).Dial("tcp", w.MQTT)
	if err != nil {
		return fmt.Errorf("connect %s: %w", thing, err)
	}
	a.session = &publisher{name: thing, conn: conn, r: bufio.NewReaderSize(conn, 512)}
	will, err := json.Marshal(protocol.ConnectionReport{ReportHeader: a.subject.Header(0, time.Now()), AgentVersion: "1.0.0"})
	if err != nil {
		return err
	}
	connect := mqttwire.Packet{
		Type: mqttwire.Connect, ClientID: thing, CleanStart: true, KeepAlive: 1000, WillTopic: a.subject.ReportTopic(protocol.ReportConnection), Will: will,
	}
	if err := a.ask(connect, mqttwire.Connack); err != nil {
		return err
	}
	notices := []string{a.subject.AssignmentTopic(), protocol.PatchTopic(a.subject.Name)}
	return a.ask(mqttwire.Packet{Type: mqttwire.Subscribe, ID: 3, Filters: notices}, mqttwire.Suback)
}

// ask sends a packet and reads its answer.
func (a *lightAgent) ask(p mqttwire.Packet, want mqttwire.Type) error {
	if err := a.session.send(p); err != nil {
		return err
	}
	answer, err := mqttwire.Read(a.session.r, mqttwire.V5, maxPacket)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", p.Type, a.session.name, err)
	}
	if answer.Type != want || answer.Code() >= 0x80 {
		return fmt.Errorf("%s of %s was answered %s code 0x%02x", p.Type, a.session.name, answer.Type, answer.Code())
	}
	return nil
}

// comeBack connects again with the waits of the agent: 1 s, doubling to 2 min,
// spread by half.
func (a *lightAgent) comeBack(ctx context.Context, w *world.World) error {
	a.close()
	for wait := time.Second; ; wait = min(2*wait, 2*time.Minute) {
		t := time.NewTimer(wait/2 + mrand.N(wait/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if err := a.come(w); err == nil {
			return nil
		}
		a.close()
	}
}

func (a *lightAgent) close() {
	if a != nil && a.session != nil {
		_ = a.session.conn.Close()
	}
}

// report is one of a small computer with a handful of components.
func (a *lightAgent) report(kind string) []byte {
	a.sequence++
	h := a.subject.Header(a.sequence, time.Now())
	load, heat, offset, used, free, whole, no, yes := 0.25, 48.5, 0.4, uint64(412876800), uint64(21474836480), uint64(31138512896), false, true
	r := any(protocol.ConnectionReport{ReportHeader: h, Connected: true, AgentVersion: "1.0.0"})
	switch kind {
	case protocol.ReportHost:
		r = protocol.HostReport{ReportHeader: h, HostFacts: protocol.HostFacts{
			OS: "linux", Distribution: "Debian GNU/Linux 13 (trixie)", Kernel: "6.12.41-v8", Architecture: "arm64", Model: "Raspberry Pi 4 Model B Rev 1.4", CPUs: 4,
			Interfaces: []protocol.Interface{{Name: "eth0", Up: true, MAC: "dc:a6:32:01:02:03", Addresses: []string{"192.0.2.17/24"}}},
		}}
	case protocol.ReportHealth:
		r = protocol.HealthReport{
			ReportHeader: h, AgentVersion: "1.0.0", UptimeSeconds: 863112, Load1: &load, MemoryUsedBytes: &used, MemoryBytes: &whole, DiskFreeBytes: &free, DiskBytes: &whole,
			InodesFree: &free, Inodes: &whole, DiskReadOnly: &no, TemperatureCelsius: &heat, ClockSynchronized: &yes, ClockOffsetSeconds: &offset,
		}
	case protocol.ReportNucleus:
		r = protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusRunning, Name: "aws.greengrass.NucleusLite", Version: "2.3.0", Runtime: "lite"}
	case protocol.ReportComponents:
		list := make([]protocol.LocalComponent, 5)
		for i := range list {
			list[i] = protocol.LocalComponent{Name: "com.example.Part" + strconv.Itoa(i), Version: "1.0.0", State: "RUNNING"}
		}
		r = protocol.ComponentsReport{ReportHeader: h, Components: list, Source: protocol.ComponentsFromSystemd}
	}
	b, _ := json.Marshal(r) //nolint:errchkjson // plain structs
	return b
}

// handshakes is the floor of a storm: mutual TLS 1.3 handshakes per second
// between this process and itself, with keys as devices have them.
func handshakes(t *testing.T, n int) float64 {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	var failed errorOnce
	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots.AddCert(parsed)
	began := time.Now()
	parallel(n, 32, func(i int) {
		d := tls.Dialer{
			NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: simulator.SpreadIP(i).AsSlice()}},
			Config:    &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}},
		}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			failed.set(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, err = c.Write([]byte("x"))
		failed.set(err)
		_, err = c.Read(make([]byte, 1))
		failed.set(err)
	})
	require.NoError(t, failed.get())
	return float64(n) / time.Since(began).Seconds()
}
