// Package artifact hands artifacts to devices by URLs that need no client
// certificate: neither runtime shows one on a download (nucleus-contract §5.3).
//
// A [Signer] puts the object's key, its digest and an expiry under a MAC into
// the path; a [Handler] serves whoever holds such a URL, any number of times
// until it expires, because classic asks at least twice. Integrity does not rest
// on the URL: devices check the digest that came with the recipe.
//
// The package knows no components and no S3 client; it reads objects through a
// small port.
package artifact
