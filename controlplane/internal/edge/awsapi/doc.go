// Package awsapi is the one endpoint for every AWS-compatible API: it hands a
// request to the service that the caller's signature is made for, because paths
// alone do not tell services apart (IoT and others both have /things).
//
// It reads the credential scope (sigv4) and verifies nothing: each service checks the
// signature itself. It must not know what a service does.
package awsapi
