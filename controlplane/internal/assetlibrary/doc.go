// Package assetlibrary asks an Asset Library over HTTP which things its
// devices, groups and queries stand for, so that deployment tasks can name them
// (cdf-services §8).
//
// A look-up reads every page and is bounded on every side: time and size of an
// answer, pages, names. What the Asset Library does not know or what has no
// thing here is left out and named; it does not fail the rest. Nothing is tried
// again: errors say whether that could help, and the caller decides.
//
// The package knows neither tasks nor the fleet service; Client fits the port
// that the fleet service has for it.
package assetlibrary
