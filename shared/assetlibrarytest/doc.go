// Package assetlibrarytest is an Asset Library for tests: a server of the few
// requests that turn devices, groups and queries into things (cdf-services §8),
// with the paging of the original, its faults included where a test asks for
// them. It is here and not with its client because the acceptance tests, which
// are another module, use it as well.
//
// It only knows the wire format. No program contains it.
package assetlibrarytest
