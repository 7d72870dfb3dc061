// Package once remembers what a request with an Idempotency-Key was answered,
// so that a caller who does not know whether the first try arrived can send it
// again.
//
// An intent is written before the request is carried out and the answer after
// it. Both are sealed: bodies hold private keys and tokens. A request whose
// process died in between is carried out again, by its successor at once, by another
// replica when the intent is a minute old; what makes tasks gets the key as well and makes none twice.
//
// It knows no HTTP framework and nothing of the API: a request is a few texts and
// a digest.
package once
