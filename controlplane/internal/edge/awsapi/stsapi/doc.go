// Package stsapi answers the one operation of AWS STS that tools begin with:
// GetCallerIdentity, by which they check their credentials and learn the account.
// It knows who signed a request and nothing of what that caller may do.
package stsapi
