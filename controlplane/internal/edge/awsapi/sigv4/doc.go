// Package sigv4 reads and verifies AWS Signature Version 4, in the Authorization
// header or in the query (presigned), for every service but S3, whose gateway
// verifies its own.
//
// It tells who signed a request and that nothing signed was changed; what the
// caller may do is decided by whom [Verifier.Verify] answers. It must not know
// where secrets lie nor what an operation is.
package sigv4
