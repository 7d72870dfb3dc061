package names

import (
	"crypto/rand"
	"encoding/hex"
)

// NewUUID returns a random UUID (version 4) in lower case.
func NewUUID() string {
	var u [16]byte
	rand.Read(u[:])
	return UUIDOf(u)
}

// UUIDOf returns the UUID in form 4 that holds these bytes, but for the six bits that
// name the form.
func UUIDOf(u [16]byte) string {
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
