package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// enrollFile in the root says how to enrol: the maker of an image puts it there,
// and the first start of the agent takes it over (package enroll, Intent).
const enrollFile = "enroll.json"

// Enrollment is how to enrol where it is not by the string of an activation alone.
type Enrollment struct {
	File string // says all that follows, as JSON

	URL           string // https://host:port
	CAFile        string // the root certificate
	CAFingerprint string // hex SHA-256 of it, instead
	CertFile      string // certificate and key of a thing or a claim
	KeyFile       string
	Name, Serial  string // empty serial: the hardware's
	Role          string // core or client
	Key           string // where the agent's key is to be: file, tpm, tpm:PATH, pkcs11:…

	Again     bool                                   // enrol a device anew that is enrolled
	OnPending func(requestID, keyFingerprint string) // somebody has to approve
}

// ErrNothingSaid is the error of Enroll when neither the command nor anything on the
// device says how.
var ErrNothingSaid = errors.New("nothing says how to enrol; give the string of an activation, --file, or --url with --ca or --ca-fingerprint")

// Enrolled is who the agent is after Enroll.
type Enrolled struct {
	AgentThing string
	Device     protocol.Subject
	Core       string // the name of the device
	URL        string
	Fresh      bool // false: it was so before
}

func enrolledAs(id identity.Identity, fresh bool) Enrolled {
	return Enrolled{AgentThing: id.AgentThing, Device: id.Subject(), Core: id.Subject().Name, URL: id.URL, Fresh: fresh}
}

// Enroll enrols the agent (package enroll): with the string of an activation, or,
// if text is empty, as cfg.Enroll says; if that says nothing, it goes on with an
// enrolment that was begun.
func Enroll(ctx context.Context, cfg Config, text string) (Enrolled, error) {
	cfg = cfg.withDefaults()
	intent, err := cfg.Enroll.intent(text)
	if err != nil {
		return Enrolled{}, err
	}
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	if errors.Is(err, fault.Exists) {
		return besideAnother(cfg, intent, err)
	}
	if err != nil {
		return Enrolled{}, err
	}
	defer dir.Close() //nolint:errcheck // only the lock is left
	if intent.Empty() {
		if intent, err = unfinished(dir); errors.Is(err, fs.ErrNotExist) {
			if id, err := identity.Read(dir); err == nil {
				return enrolledAs(id, false), nil
			}
			err = ErrNothingSaid
		}
		if err != nil {
			return Enrolled{}, err
		}
	}
	ecfg := enroll.Config{Dir: dir, Log: cfg.Log, Again: cfg.Enroll.Again}
	if cfg.Enroll.OnPending != nil {
		ecfg.OnPending = func(p protocol.EnrollPending) { cfg.Enroll.OnPending(p.RequestID, p.KeyFingerprint) }
	}
	id, fresh, err := enroll.Run(ctx, ecfg, intent)
	if err != nil {
		return Enrolled{}, err
	}
	return enrolledAs(id, fresh), nil
}

// intent reads what e names.
func (e Enrollment) intent(text string) (i enroll.Intent, err error) {
	if e.File != "" {
		b, err := readSmall(e.File)
		if err != nil {
			return i, fmt.Errorf("file that says how to enrol: %w", err)
		}
		if i, err = enroll.ParseIntent(b); err != nil {
			return i, fmt.Errorf("%s: %w", e.File, err)
		}
	}
	for into, value := range map[*string]string{
		&i.String: text, &i.URL: e.URL, &i.CAFingerprint: e.CAFingerprint, &i.Name: e.Name, &i.Serial: e.Serial, &i.Keys: e.Key,
	} {
		if value != "" {
			*into = value
		}
	}
	if e.Role != "" {
		i.Role = protocol.Role(e.Role)
	}
	for _, f := range []struct {
		into       *string
		what, name string
	}{{&i.CAPEM, "root certificate", e.CAFile}, {&i.CertificatePEM, "certificate", e.CertFile}, {&i.PrivateKeyPEM, "key of the certificate", e.KeyFile}} {
		if f.name == "" {
			continue
		}
		b, err := readSmall(f.name)
		if err != nil {
			return i, fmt.Errorf("file with the %s: %w", f.what, err)
		}
		*f.into = string(b)
	}
	if i.Serial == "" && i.String == "" && i.URL != "" {
		i.Serial = inventory.New("/").Facts().Serial
	}
	return i, nil
}

func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > 256<<10 {
		return nil, fault.New(fault.TooLarge, "%s has %d bytes, which is too much for a certificate or a key", name, info.Size())
	}
	return os.ReadFile(name)
}

// besideAnother is enrolling where an agent runs, which has the folder (taken): fine
// when i is what it was enrolled by.
func besideAnother(cfg Config, i enroll.Intent, taken error) (Enrolled, error) {
	var id identity.Identity
	if readJSON(filepath.Join(cfg.Root, "agent", "identity.json"), &id) != nil || id.AgentThing == "" {
		return Enrolled{}, fmt.Errorf("%w; one that waits to be let in ends with 'ggfleet-agent stop%s', when it is a service", taken, rootFlag(cfg.Root))
	}
	if !cfg.Enroll.Again && (i.Empty() || sameEnrollment(id, i)) {
		return enrolledAs(id, false), nil
	}
	return Enrolled{}, fault.New(fault.Exists,
		"the agent in %s runs, enrolled as %s at %s; to enrol the same device anew stop it ('ggfleet-agent stop%s', when it is a service) and say --again, for another device use another --root", cfg.Root, id.AgentThing, id.URL, rootFlag(cfg.Root))
}

// sameEnrollment reports whether i is what gave id.
func sameEnrollment(id identity.Identity, i enroll.Intent) bool {
	if i.String == "" {
		return i.URL == id.URL && (i.Name == "" || i.Name == id.Subject().Name) && (i.Role == "" || i.Role == id.Subject().Role)
	}
	e, err := protocol.ParseEnrollment(i.String)
	return err == nil && id.ActivationID == e.ActivationID && id.CAFingerprint == e.CAFingerprint
}

// unfinished is the enrolment that was begun, or that the root's file asks for;
// fs.ErrNotExist if there is neither.
func unfinished(d *localstate.Dir) (enroll.Intent, error) {
	i, err := enroll.Stored(d)
	if err == nil {
		return i, nil
	}
	b, fileErr := readSmall(filepath.Join(d.Site(), enrollFile))
	if fileErr != nil {
		if errors.Is(err, fault.Invalid) {
			return i, err
		}
		return i, fileErr
	}
	if i, err = enroll.ParseIntent(b); err != nil {
		return i, fmt.Errorf("%s: %w", filepath.Join(d.Site(), enrollFile), err)
	}
	if i.Serial == "" && i.String == "" {
		i.Serial = inventory.New("/").Facts().Serial
	}
	return i, nil
}

// identify loads who the agent is, or makes it known first (alone).
func (a *agent) identify(ctx context.Context) error {
	var damage, err error
	a.live, damage, err = identity.OpenKept(a.dir)
	if damage != nil {
		a.cfg.Log.ErrorContext(ctx, "identity was damaged and is taken from its copy; is the disk failing?", "damaged", a.dir.Path("identity.json"+localstate.DamagedSuffix), logx.Err, damage)
	}
	if err != nil {
		if err = a.alone(ctx, err); err != nil {
			return err
		}
		if a.live, err = identity.Open(a.dir); err != nil {
			return fmt.Errorf("the agent's identity: %w; %s", err, mendHint(a.dir.Site()))
		}
	}
	a.closers = append(a.closers, a.live.Close)
	a.id = a.live.Identity()
	// What the device was enrolled with has served its purpose.
	if _, err := enroll.Stored(a.dir); !errors.Is(err, fs.ErrNotExist) {
		if err := a.dir.Do(localstate.EnrollForget, func() error { return a.dir.Remove(enrollFile) }); err != nil {
			a.cfg.Log.WarnContext(ctx, "what the device was enrolled with is still there", logx.Err, err)
		}
	}
	return nil
}

// enrolledBy removes the root's file, which has served its purpose.
func (a *agent) enrolledBy(ctx context.Context) {
	if err := os.Remove(filepath.Join(a.dir.Site(), enrollFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.cfg.Log.WarnContext(ctx, "the file that this device was enrolled with is still there", "file", filepath.Join(a.dir.Site(), enrollFile), logx.Err, err)
	}
}

// conflictName is where it is kept that another agent has this identity.
const conflictName = "conflict.json"

type conflict struct {
	At time.Time `json:"at"`
}

// conflictAt is when another agent took the session last; zero: never.
func (a *agent) conflictAt() time.Time {
	var c conflict
	_ = a.dir.ReadJSON(conflictName, &c) // what cannot be read is not told
	return c.At
}

// takenOver keeps that another agent took the session.
func (a *agent) takenOver() {
	if err := a.dir.WriteJSON(conflictName, conflict{At: a.live.Clock().Now().UTC()}); err != nil {
		a.cfg.Log.Warn("conflict is not kept", logx.Err, err)
	}
}
