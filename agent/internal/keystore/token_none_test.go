//go:build !pkcs11

package keystore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestThisBinarySaysThatItKnowsNoPKCS11(t *testing.T) {
	_, err := keystore.Open("pkcs11:token=a?module-path=b&pin-source=c", files(t.TempDir()))
	require.ErrorIs(t, err, fault.Unsupported)
	require.ErrorContains(t, err, "built without PKCS#11")
}
