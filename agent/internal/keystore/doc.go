// Package keystore makes private keys and signs with them, wherever they live: in
// a file, in a TPM 2.0 or in a PKCS#11 token. It is the only user of go-tpm and
// crypto11. It does not know what the keys are for.
//
// A place is named by a reference:
//
//	file                      PKCS#8 in the agent's folder, mode 0600
//	tpm, tpm:/dev/tpmrm0      in the TPM; only what the TPM has encrypted is kept
//	                          in the agent's folder, and no other TPM can load it
//	pkcs11:token=…?…          in a token (RFC 7512); needs a build with the tag
//	                          pkcs11, which needs cgo
package keystore
