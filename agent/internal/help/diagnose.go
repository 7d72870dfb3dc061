package help

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// stepTime bounds one step of a diagnosis.
const stepTime = 10 * time.Second

// diagnoseTime bounds a diagnosis; a system call on a mount that does not answer
// never ends.
const diagnoseTime = 2 * time.Minute

// Diagnose implements Device. One that does not end in time is left to itself: what
// it found until then is written, and there is no second one beside it.
func (h *Host) Diagnose(ctx context.Context, name string, w io.Writer) error {
	do, ok := map[string]func(context.Context, io.Writer) error{
		"doctor": h.cfg.Doctor, "network": h.network, "disk": h.disk, "processes": h.processes, "clock": h.clock, "nucleus": h.nucleus,
	}[name]
	if !ok || do == nil {
		return fault.New(fault.Unsupported, "this agent has no diagnostic %s", name)
	}
	ctx, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	found, err := h.bounded(ctx, name, do)
	lines := &scrubbing{w: w}
	t := tabwriter.NewWriter(lines, 0, 8, 2, ' ', 0)
	_, writeErr := t.Write(found)
	if errors.Is(err, errHangs) && len(found) > 0 { // a part is better than none
		_, err = fmt.Fprintf(t, "\nthis is not all: %v\n", err)
	}
	return errors.Join(err, writeErr, t.Flush(), lines.end())
}

// errHangs is the error of a diagnosis that did not end.
var errHangs = fault.New(fault.Unavailable, "it hangs: perhaps a mount does not answer")

// bounded calls do, on a goroutine that is left when it does not end with ctx, and
// returns what it has written by then.
func (h *Host) bounded(ctx context.Context, name string, do func(context.Context, io.Writer) error) ([]byte, error) {
	h.mu.Lock()
	hangs := h.hangs[name]
	h.mu.Unlock()
	if hangs {
		return nil, fmt.Errorf("the diagnosis %s that was asked for before has not ended yet; %w", name, errHangs)
	}
	var out kept
	var err error // once done
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = do(ctx, &out)
	}()
	select {
	case <-done:
		return out.take(), err
	case <-ctx.Done():
	}
	t := time.NewTimer(h.patience / 60) // it may be about to end by itself
	defer t.Stop()
	select {
	case <-done:
		return out.take(), err
	case <-t.C:
	}
	h.hang(name, true)
	go func() {
		<-done // nobody waits for what it says
		h.hang(name, false)
	}()
	return out.take(), fmt.Errorf("the diagnosis %s does not end; %w", name, errHangs)
}

func (h *Host) hang(name string, does bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hangs[name] = does
}

// kept is what a diagnosis has written. What comes after take is dropped.
type kept struct {
	mu    sync.Mutex
	b     []byte
	taken bool
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.taken || len(k.b)+len(p) > bundleBytes {
		return 0, io.ErrClosedPipe
	}
	k.b = append(k.b, p...)
	return len(p), nil
}

func (k *kept) take() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.taken = true
	return k.b
}

// scrubbing takes secrets out of the text that is written to it.
type scrubbing struct {
	w     io.Writer
	scrub scrubber
	rest  []byte
}

func (s *scrubbing) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != '\n' {
			if len(s.rest) < maxLine { // the rest of a longer line is left out
				s.rest = append(s.rest, b)
			}
			continue
		}
		if err := s.line(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// end writes a last line that nobody ended.
func (s *scrubbing) end() error {
	if len(s.rest) == 0 {
		return nil
	}
	return s.line()
}

func (s *scrubbing) line() error {
	l, ok := s.scrub.line(s.rest)
	s.rest = s.rest[:0]
	if !ok {
		return nil
	}
	_, err := s.w.Write(append(l[:len(l):len(l)], '\n'))
	return err
}

// network looks up, connects to and shakes hands with each endpoint.
func (h *Host) network(ctx context.Context, w io.Writer) error {
	facts := inventory.New("/").Facts()
	for _, i := range facts.Interfaces {
		state := "down"
		if i.Up {
			state = "up"
		}
		fmt.Fprintf(w, "interface %s\t%s\t%s\n", i.Name, state, strings.Join(i.Addresses, " "))
	}
	for _, r := range facts.Routes {
		fmt.Fprintf(w, "default route\t%s\t%s\n", r.Interface, r.Gateway)
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"} {
		if v := os.Getenv(name); v != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, v)
		}
	}
	if h.cfg.Endpoints == nil {
		return nil
	}
	for _, e := range h.cfg.Endpoints() {
		reach(ctx, w, e)
	}
	return nil
}

// reach writes how far a connection to e comes, and how long each step took.
func reach(ctx context.Context, w io.Writer, e Endpoint) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		fmt.Fprintf(w, "%s\t%s\tis no address: %v\n", e.Name, e.Address, err)
		return
	}
	step := func(what, found string, since time.Time, err error) bool {
		if err != nil {
			found = "FAILED: " + err.Error()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Name, what, time.Since(since).Round(time.Millisecond), found)
		return err == nil
	}
	start := time.Now()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if !step("name "+host, strings.Join(addresses, " "), start, err) {
		return
	}
	start = time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(addresses[0], port))
	if !step("connect to port "+port, "", start, err) {
		return
	}
	defer c.Close()
	if !e.TLS {
		return
	}
	start = time.Now()
	conn := tls.Client(c, &tls.Config{ServerName: host, RootCAs: e.Roots, MinVersion: tls.VersionTLS12})
	if !step("TLS", "", start, conn.HandshakeContext(ctx)) {
		return
	}
	s := conn.ConnectionState()
	leaf := s.PeerCertificates[0]
	fmt.Fprintf(w, "%s\tcertificate\t\t%s, good until %s, %s\n", e.Name, leaf.Subject, leaf.NotAfter.UTC().Format(time.RFC3339), tls.VersionName(s.Version))
}

func (h *Host) clock(_ context.Context, w io.Writer) error {
	now := time.Now()
	zone, offset := now.Zone()
	fmt.Fprintf(w, "time\t%s\nzone\t%s (%+d s)\n", now.UTC().Format(time.RFC3339Nano), zone, offset)
	host := inventory.New("/").Read(h.cfg.Root)
	if s := host.ClockSynchronized; s != nil {
		fmt.Fprintf(w, "synchronized\t%t, says the kernel\n", *s)
	}
	if host.UptimeSeconds > 0 {
		fmt.Fprintf(w, "up for\t%s\n", time.Duration(host.UptimeSeconds)*time.Second)
	}
	if h.cfg.Clock != nil {
		if ahead, ok := h.cfg.Clock(); ok {
			fmt.Fprintf(w, "ahead of the control plane by\t%s\n", ahead.Round(time.Millisecond))
		}
	}
	return nil
}

func (h *Host) nucleus(ctx context.Context, w io.Writer) error {
	n := h.cfg.Nucleus()
	if n.Runtime == "" {
		_, err := io.WriteString(w, "there is no nucleus on this device\n")
		return err
	}
	fmt.Fprintf(w, "runtime\t%s\nroot\t%s\n%s\n", n.Runtime, n.Root, strings.TrimSpace(n.Text))
	for _, e := range readDir(n.Root + "/logs") {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(w, "log %s\t%d bytes\t%s\n", e.Name(), info.Size(), info.ModTime().UTC().Format(time.RFC3339))
		}
	}
	if n.Runtime == Lite || n.Runtime == Classic {
		units, err := h.units(ctx)
		if err != nil {
			units = err.Error()
		}
		fmt.Fprintf(w, "\n%s", units)
	}
	return nil
}

// units is what systemd says of the units that belong to a nucleus or the agent.
func (h *Host) units(ctx context.Context) (string, error) {
	argv := []string{
		"systemctl", "show", "--no-pager", "--property=Id,LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,UnitFileState,StateChangeTimestamp",
		"ggl.*", "greengrass-lite.target", "greengrass.service",
	}
	return output(ctx, append(argv, h.cfg.Units...)...)
}
