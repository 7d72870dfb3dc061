package iot

import (
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Reason says more precisely than a fault.Kind why something about certificates
// and policies was refused. It is an error itself: errors.Is(err, iot.Attached).
type Reason string

// The reasons.
const (
	Attached        Reason = "attached"         // it is attached to something, or other versions of it are there
	WrongStatus     Reason = "wrong status"     // the status does not allow it
	BadCertificate  Reason = "bad certificate"  // the certificate, or who signed it, is not what it must be
	BadVerification Reason = "bad verification" // the verification certificate does not name the registration code
	AmbiguousCA     Reason = "ambiguous CA"     // several CAs could have signed it
	BadPolicy       Reason = "bad policy"       // the document is no policy
	TooManyVersions Reason = "too many versions"
)

// Error implements error.
func (r Reason) Error() string { return string(r) }

// refuse makes an error for a reason; the text may be shown.
func refuse(r Reason, k fault.Kind, format string, args ...any) error {
	return because(r, fault.New(k, format, args...))
}

// because adds a reason to an error that has none.
func because(r Reason, err error) error {
	if _, has := errors.AsType[Reason](err); has || err == nil {
		return err
	}
	return fmt.Errorf("%w: %w", r, err)
}
