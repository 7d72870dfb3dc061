package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// usagePeriod is PrivateKeyUsagePeriod (RFC 3280 §4.2.1.4): from when to when the
// key was meant to be used when the certificate was made. It is there when validity
// is longer, and says nothing about what is accepted.
type usagePeriod struct {
	NotBefore time.Time `asn1:"generalized,tag:0"`
	NotAfter  time.Time `asn1:"generalized,tag:1"`
}

var usagePeriodID = asn1.ObjectIdentifier{2, 5, 29, 16} //nolint:gochecknoglobals // a constant

func lifeExtension(from, to time.Time) (pkix.Extension, error) {
	b, err := asn1.Marshal(usagePeriod{from.UTC().Truncate(time.Second), to.UTC().Truncate(time.Second)})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode life of certificate: %w", err)
	}
	return pkix.Extension{Id: usagePeriodID, Value: b}, nil
}

// Life is how long a certificate was made for. It is less than its validity when it
// took the place of another one (Client.Replaces).
func Life(c *x509.Certificate) time.Duration {
	valid := c.NotAfter.Sub(c.NotBefore)
	for _, e := range c.Extensions {
		var p usagePeriod
		if !e.Id.Equal(usagePeriodID) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &p); err != nil || len(rest) > 0 {
			continue
		}
		if life := p.NotAfter.Sub(p.NotBefore); life > 0 && life < valid {
			return life
		}
	}
	return valid
}
