// Package s3store keeps artifacts in S3 and is the only package that knows
// minio-go and versitygw.
//
// [Store] is object.Store over any S3 server. [StartEmbedded] runs such a
// server inside the process, on a unix socket, so that the embedded default and
// an external S3 are the same code on our side; [Embedded.Proxy] lets the AWS
// endpoint hand requests of others to it. It must not know what the objects
// mean, nor where access keys are kept ([Accounts] finds them).
package s3store
