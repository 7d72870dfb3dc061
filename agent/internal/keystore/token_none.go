//go:build !pkcs11

package keystore

import "github.com/ggfleet/ggfleet/shared/fault"

func openToken(token, Files) (Store, error) {
	return nil, fault.New(fault.Unsupported, "this agent was built without PKCS#11; build it with CGO_ENABLED=1 and the tag pkcs11, or keep the key in a TPM or a file")
}
