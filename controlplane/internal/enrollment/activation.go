package enrollment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Bounds of an activation.
const (
	DefaultLife = 24 * time.Hour
	MaxLife     = 365 * 24 * time.Hour
	MaxUses     = 1000
	codeLength  = 20 // letters and digits: 119 bits
	maxDeviceID = 256
)

// Activation lets a device in, a limited number of times, until it expires.
type Activation struct {
	ID       string `json:"id"`
	DeviceID string `json:"deviceId"` // the name of the core or client device
	// Role is the one that the device must have; empty: either.
	Role      protocol.Role `json:"role,omitempty"`
	CodeHash  string        `json:"codeHash"` // hex SHA-256
	Limit     int           `json:"limit"`
	ExpiresAt time.Time     `json:"expiresAt"`
	CreatedAt time.Time     `json:"createdAt"`
	UpdatedAt time.Time     `json:"updatedAt"`
	// Issued holds the certificate given for each key, by hex SHA-256 of the
	// public key: a device that lost the answer gets the same one again.
	Issued map[string]string `json:"issued,omitempty"`
}

const prefix = state.Root + "enrollment/"

func activationKey(id string) string { return prefix + "activation/" + id }

// deviceKey escapes the id, which may hold slashes.
func deviceKey(device string) string { return prefix + "device/" + url.PathEscape(device) }

// NewActivation asks for an activation.
type NewActivation struct {
	DeviceID string
	Life     time.Duration // 0: DefaultLife
	Limit    int           // 0: one device
	Role     protocol.Role // that the device must have; empty: either
}

// Activate makes an activation and returns it with its code, which is not
// stored. A device has at most one: the one before ends.
func (s *Service) Activate(ctx context.Context, n NewActivation) (Activation, string, error) {
	if err := checkDeviceID(n.DeviceID); err != nil {
		return Activation{}, "", err
	}
	if n.Life == 0 {
		n.Life = DefaultLife
	}
	if n.Limit == 0 {
		n.Limit = 1
	}
	if n.Life < time.Minute || n.Life > MaxLife {
		return Activation{}, "", fault.Field("expiresInSeconds", "is %d, want 60 to %d", int(n.Life.Seconds()), int(MaxLife.Seconds()))
	}
	if n.Limit < 1 || n.Limit > MaxUses {
		return Activation{}, "", fault.Field("registrationLimit", "is %d, want 1 to %d", n.Limit, MaxUses)
	}
	if n.Role != "" && n.Role != protocol.RoleCore && n.Role != protocol.RoleClient {
		return Activation{}, "", fault.Field("role", "is %q, want %s or %s", fault.Brief(string(n.Role)), protocol.RoleCore, protocol.RoleClient)
	}
	if err := s.fits(ctx, n); err != nil {
		return Activation{}, "", err
	}
	code := newCode()
	now := s.now().UTC().Truncate(time.Millisecond)
	a := Activation{
		ID: names.NewUUID(), DeviceID: n.DeviceID, Role: n.Role, CodeHash: hash(code), Limit: n.Limit, ExpiresAt: now.Add(n.Life), CreatedAt: now, UpdatedAt: now,
	}
	_, err := state.Update(ctx, s.store, state.StepActivation, deviceKey(n.DeviceID), func(id *string, exists bool, b *state.Batch) error {
		if exists {
			b.Delete(activationKey(*id))
		}
		*id = a.ID
		b.If(activationKey(a.ID), 0).Put(activationKey(a.ID), a)
		return nil
	})
	if err != nil {
		return Activation{}, "", fmt.Errorf("store activation for %s: %w", n.DeviceID, err)
	}
	return a, code, nil
}

// fits reports an activation for a role that the device, if it is there, does not
// have.
func (s *Service) fits(ctx context.Context, n NewActivation) error {
	if n.Role == "" {
		return nil
	}
	subject, err := s.subject(ctx, n.DeviceID)
	switch {
	case errors.Is(err, fault.NotFound):
		return nil // it may come
	case err == nil && subject.Role != n.Role:
		err = fault.Field("role", "is %s, but %s is a %s", n.Role, n.DeviceID, kindOf(subject.Role))
	}
	return err
}

// RoleOf is what the fleet has of the device: a core, a client device, or nothing
// yet ("").
func (s *Service) RoleOf(ctx context.Context, device string) (protocol.Role, error) {
	subject, err := s.subject(ctx, device)
	if errors.Is(err, fault.NotFound) {
		return "", nil
	}
	return subject.Role, err
}

// Activation returns an activation, or fault.NotFound.
func (s *Service) Activation(ctx context.Context, id string) (Activation, error) {
	a, err := s.activation(ctx, id)
	return a.Value, err
}

func (s *Service) activation(ctx context.Context, id string) (state.Record[Activation], error) {
	a, err := state.Read[Activation](ctx, s.store, activationKey(url.PathEscape(id)))
	if errors.Is(err, fault.NotFound) {
		return a, fault.New(fault.NotFound, "activation %q does not exist", fault.Brief(id))
	}
	return a, err
}

// DeleteActivation removes an activation; an unknown one is no error. Devices
// that used it stay enrolled.
func (s *Service) DeleteActivation(ctx context.Context, id string) error {
	if !isID(id) {
		return fault.Field("activationId", "%q is not a lower-case UUID", fault.Brief(id))
	}
	a, err := s.activation(ctx, id)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := state.ReadOr[string](ctx, s.store, deviceKey(a.Value.DeviceID))
	if err != nil {
		return err
	}
	b := state.NewBatch(state.StepActivation).Delete(activationKey(id))
	if d.Value == id {
		b.If(deviceKey(a.Value.DeviceID), d.Rev).Delete(deviceKey(a.Value.DeviceID))
	}
	if _, err = s.store.Commit(ctx, b); err != nil {
		return fmt.Errorf("delete activation %s: %w", id, err)
	}
	return nil
}

// checkDeviceID: letters, separators and numbers of any script and _.:/=+-@ up
// to 256 bytes (cdf-services §6.2).
func checkDeviceID(s string) error {
	if s == "" || len(s) > maxDeviceID || !utf8.ValidString(s) {
		return fault.Field("deviceId", "has %d bytes, want 1 to %d of UTF-8", len(s), maxDeviceID)
	}
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r) {
			return fault.Field("deviceId", "holds %q; only letters, separators, numbers and _ . : / = + - @ are allowed", r)
		}
	}
	return nil
}

const codeAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func newCode() string {
	out := make([]byte, 0, codeLength)
	var b [1]byte
	for len(out) < codeLength {
		rand.Read(b[:])
		if int(b[0]) < 256-256%len(codeAlphabet) { // no letter more likely than another
			out = append(out, codeAlphabet[int(b[0])%len(codeAlphabet)])
		}
	}
	return string(out)
}

func isID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

func hash(code string) string {
	h := sha256.Sum256([]byte(code))
	return hex.EncodeToString(h[:])
}

func (a Activation) proves(code string) bool {
	return subtle.ConstantTimeCompare([]byte(a.CodeHash), []byte(hash(code))) == 1
}
