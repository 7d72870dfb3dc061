package webhook

import (
	"net/netip"
	"time"
)

// RetryAfter lets tests read a header.
func RetryAfter(v string, now time.Time) time.Duration { return retryAfter(v, now) }

// AddressAllowed lets tests ask about an address.
func AddressAllowed(addr string, denyPrivate bool) bool {
	return checkAddr(netip.MustParseAddr(addr), denyPrivate) == nil
}
