package fleetapi

// DecodeStrict is for the fuzz test.
func DecodeStrict(b []byte) (any, error) { return decodeStrict(b) }
