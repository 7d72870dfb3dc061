package rest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	maxToken   = 1024 // characters of a token from outside
	filterHash = 6    // bytes
)

// encoding has the letters that the pattern of a marker allows (iot-api §7) and that
// no URL escapes.
func encoding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }

// Token returns the nextToken of a page that ended with after. filters are what
// the list was narrowed by: the token holds for the same ones only.
func Token(after string, filters ...string) string {
	return encoding().EncodeToString(append(hashOf(filters), after...))
}

// After returns what Token was made of, "" for the empty token. A token that was
// not made for these filters is an error of the member nextToken.
func After(token string, filters ...string) (string, error) {
	return after("nextToken", token, filters)
}

// AfterMarker is After for the lists that call it marker.
func AfterMarker(token string, filters ...string) (string, error) {
	return after("marker", token, filters)
}

func after(member, token string, filters []string) (string, error) {
	if token == "" {
		return "", nil
	}
	if len(token) > maxToken {
		return "", fault.Field(member, "has %d characters, no token of this server has more than %d", len(token), maxToken)
	}
	raw, err := encoding().DecodeString(token)
	if err != nil || len(raw) < filterHash {
		return "", fault.Field(member, "is no token of this server; begin without one")
	}
	if !bytes.Equal(raw[:filterHash], hashOf(filters)) {
		return "", fault.Field(member, "was made for a list with other filters; begin without one")
	}
	return string(raw[filterHash:]), nil
}

func hashOf(filters []string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(filters, "\x00")))
	return sum[:filterHash:filterHash]
}

// Limit is the size of a page: what the caller asks for, else n.
func Limit(asked *int32, n int) int {
	if asked == nil {
		return n
	}
	return int(*asked)
}
