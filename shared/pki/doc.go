// Package pki makes and checks keys, certificate requests and certificates with
// the standard library alone.
//
// Keys are written as PKCS#8, because the classic nucleus cannot read SEC1
// (nucleus-contract trap 50). Serial numbers have 128 random bits. A certificate
// id is the lower-case hex SHA-256 of the DER certificate (iot-api §16).
package pki
