// Package access keeps who may call the APIs: access keys for the AWS endpoint,
// whose secrets are needed in clear to verify signatures and therefore lie
// sealed, temporary ones of devices, which lie nowhere, and bearer tokens for
// the fleet API, of which only a hash is kept.
//
// It decides who a caller is, not what the caller may do: the edges compare a
// [Role] with what an operation asks for. It must not know HTTP or S3.
package access
