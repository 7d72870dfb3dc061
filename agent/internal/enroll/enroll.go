package enroll

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"runtime"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// ErrUntrusted is the error of a server that is not the one that the enrolment
// names. Nothing was sent to it.
var ErrUntrusted = identity.ErrUntrusted

// Cloud lets devices in.
type Cloud interface {
	Enroll(ctx context.Context, r protocol.EnrollRequest) (*protocol.EnrollResponse, *protocol.EnrollPending, error)
	Close()
}

// Config is what enrolling needs. Dir is required.
type Config struct {
	Dir *localstate.Dir
	Log *slog.Logger

	// Patient never gives up, as a service: what fails is tried again, later and
	// later. Otherwise a refusal, or a control plane that is not reached within
	// about 15 seconds, is an error; somebody's approval is waited for in any case.
	Patient bool
	// Again enrols a device anew that is enrolled: the answer must be for the same
	// device.
	Again bool
	// OnPending is told once that somebody has to approve; nil: nobody is.
	OnPending func(protocol.EnrollPending)
	// Dial opens the control plane; nil: over HTTPS.
	Dial func(url string, t *tls.Config, onDate func(time.Time)) (Cloud, error)
}

// record is the stored intent.
type record struct {
	Intent
	KeyName string `json:"keyName"`
}

const recordName = "enroll.json"

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	if c.Dial == nil {
		c.Dial = func(url string, t *tls.Config, onDate func(time.Time)) (Cloud, error) {
			return deviceapi.New(deviceapi.Config{URL: url, TLS: t, OnDate: onDate})
		}
	}
	return c
}

// Stored returns the intent of an enrolment that has not ended; fs.ErrNotExist
// when there is none.
func Stored(d *localstate.Dir) (Intent, error) {
	var r record
	err := d.ReadJSON(recordName, &r)
	return r.Intent, err
}

// Run enrols as i says and returns the identity. fresh is false when this agent
// already was enrolled so: then nothing is sent. What is missing or damaged is made
// good. Errors say what to do.
func Run(ctx context.Context, cfg Config, i Intent) (id identity.Identity, fresh bool, err error) {
	cfg = cfg.withDefaults()
	if err := i.check(); err != nil {
		return identity.Identity{}, false, err
	}
	before, err := stored(cfg.Dir)
	switch {
	case err == nil && cfg.Again:
	case err == nil && i.gave(before):
		return before, false, forget(cfg.Dir)
	case err == nil:
		return identity.Identity{}, false, fault.New(fault.Exists,
			"this agent is enrolled as %s at %s; to enrol the same device anew say --again, for another device use another --root, or stop this agent and remove %s", before.AgentThing, before.URL, cfg.Dir.Path(""))
	case !errors.Is(err, fs.ErrNotExist):
		cfg.Log.WarnContext(ctx, "stored identity is damaged and will be replaced", logx.Err, err)
	}
	r, err := intend(cfg.Dir, i, before)
	if err != nil {
		return identity.Identity{}, false, err
	}
	id, err = carryOut(ctx, cfg, r, before)
	if err != nil {
		return identity.Identity{}, false, err
	}
	return id, true, forget(cfg.Dir)
}

// stored returns the identity of an agent that can work with it.
func stored(d *localstate.Dir) (identity.Identity, error) {
	live, err := identity.Open(d)
	if err != nil {
		return identity.Identity{}, err
	}
	return live.Identity(), live.Close()
}

// intend stores how to enrol. The same again keeps the key that was made for it.
func intend(d *localstate.Dir, i Intent, before identity.Identity) (record, error) {
	var r record
	if err := d.ReadJSON(recordName, &r); err == nil && r.Intent == i {
		return r, nil
	}
	r = record{Intent: i, KeyName: identity.FirstKeyName(i.Keys)}
	if before.AgentThing != "" { // its key stays until the new identity is there
		r.KeyName = keystore.NewName()
	}
	return r, d.Do(localstate.EnrollIntent, func() error { return d.WriteJSON(recordName, r) })
}

// forget removes the intent, which holds secrets; none is no error.
func forget(d *localstate.Dir) error {
	if _, err := Stored(d); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := d.Do(localstate.EnrollForget, func() error { return d.Remove(recordName) })
	if err != nil {
		return fmt.Errorf("removing what the device was enrolled with: %w", err)
	}
	return nil
}

func carryOut(ctx context.Context, cfg Config, r record, before identity.Identity) (id identity.Identity, err error) {
	e, err := r.target()
	if err != nil {
		return id, err
	}
	keys, err := keystore.Open(r.Keys, cfg.Dir)
	if err != nil {
		return id, fmt.Errorf("the agent's key: %w", err)
	}
	defer keys.Close() //nolint:errcheck // the next user opens it anew
	key, err := identity.FirstKey(cfg.Dir, keys, r.KeyName)
	if err != nil {
		return id, err
	}
	resp, err := ask(ctx, cfg, r.Intent, e, key)
	if err != nil {
		return id, explain(r.Intent, e, err)
	}
	id = identity.Identity{
		URL: e.URL, CAFingerprint: e.CAFingerprint, ActivationID: e.ActivationID, AgentThing: resp.AgentThing, Core: resp.Core, Device: resp.Device,
		Keys: r.Keys, Credential: identity.Credential{KeyName: r.KeyName, CertificatePEM: resp.CertificatePEM}, CAPEM: resp.CAPEM, MQTTAddress: resp.MQTTAddress,
	}
	if before.AgentThing != "" && before.Subject() != id.Subject() {
		return id, fault.New(fault.Exists, "this is the agent of %s, and %s let it in as %s; for another device use another --root", before.Subject().Name, e.URL, id.Subject().Name)
	}
	if err := identity.Store(cfg.Dir, keys, id); err != nil {
		return id, fmt.Errorf("the control plane's answer cannot be used: %w", err)
	}
	if before.AgentThing != "" {
		drop(ctx, cfg, before)
	}
	return id, nil
}

// drop destroys the keys of an identity that was replaced. What cannot be
// destroyed is left: nobody takes its certificates any more.
func drop(ctx context.Context, cfg Config, id identity.Identity) {
	keys, err := keystore.Open(id.Keys, cfg.Dir)
	if err == nil {
		defer keys.Close() //nolint:errcheck // nothing depends on it
		for _, c := range []*identity.Credential{&id.Credential, id.Next, id.Old} {
			if c != nil {
				err = errors.Join(err, keys.Remove(c.Key()))
			}
		}
	}
	if err != nil {
		cfg.Log.WarnContext(ctx, "key of the identity before stays", logx.Err, err)
	}
}

// ask asks to be let in until the answer is there.
func ask(ctx context.Context, cfg Config, i Intent, e protocol.Enrollment, key crypto.Signer) (protocol.EnrollResponse, error) {
	csr, err := identity.CSR(key, "agent")
	if err != nil {
		return protocol.EnrollResponse{}, err
	}
	own, err := identity.KeyFingerprint(key)
	if err != nil {
		return protocol.EnrollResponse{}, err
	}
	cloud, err := dial(cfg, i, e)
	if err != nil {
		return protocol.EnrollResponse{}, err
	}
	defer cloud.Close()
	w := waiting{cfg: cfg, url: e.URL}
	request := protocol.EnrollRequest{
		ActivationID: e.ActivationID, Code: e.Code, CSR: csr, Role: i.Role, Name: i.Name, Serial: i.Serial, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	for {
		var resp *protocol.EnrollResponse
		var pending *protocol.EnrollPending
		err := cfg.Dir.Do(localstate.EnrollCall, func() (err error) {
			resp, pending, err = cloud.Enroll(ctx, request)
			return err
		})
		if err == nil && resp != nil {
			return *resp, nil
		}
		if pending != nil { // whoever compares must see this device's key, not what the answer says
			pending.KeyFingerprint = own
		}
		if err := w.next(ctx, pending, err); err != nil {
			return protocol.EnrollResponse{}, err
		}
	}
}

func dial(cfg Config, i Intent, e protocol.Enrollment) (Cloud, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, fault.Field("url", "%q is not an address", e.URL)
	}
	clock := identity.OpenClock(cfg.Dir)
	pinned := identity.Pinned(u.Hostname(), e.CAFingerprint, clock.Floor)
	pair, err := i.certificate()
	if err != nil {
		return nil, err
	}
	if pair != nil {
		pinned.Certificates = []tls.Certificate{*pair}
	}
	return cfg.Dial(e.URL, pinned, clock.Saw)
}

// explain adds the way out to the refusals that an operator can do something
// about.
func explain(i Intent, e protocol.Enrollment, err error) error {
	if errors.Is(err, ErrUntrusted) {
		return fmt.Errorf("enrolling at %s: %w", e.URL, err)
	}
	text, kind := fault.Message(err), fault.KindOf(err)
	if deviceapi.Refused(err) {
		text, kind = "the client certificate is not accepted", fault.Denied
	}
	switch kind {
	case fault.Unauthenticated, fault.Denied, fault.NotFound, fault.Exists:
		switch refused := fault.New(kind, "%s", text); i.way() {
		case "activation":
			return fmt.Errorf("activation %s was refused by %s: %w; 'ggfleet activation create' makes a new one", e.ActivationID, e.URL, refused)
		case "certificate":
			return fmt.Errorf("the certificate was refused by %s: %w; it must be ACTIVE there, and attached to the thing of this device or a claim", e.URL, refused)
		default:
			return fmt.Errorf("%s did not let this device in: %w", e.URL, refused)
		}
	case fault.Invalid, fault.TooLarge, fault.Unsupported:
		return fmt.Errorf("enrolling at %s: %w", e.URL, err)
	case fault.Conflict, fault.Stale, fault.Exhausted, fault.Unavailable:
	}
	return fmt.Errorf("enrolling at %s: %w; check that the address is reachable from here, then run the same command again: it goes on where it was", e.URL, err)
}
