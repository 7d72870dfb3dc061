// Package semver compares semantic versions and tests them against the version
// ranges of npm, which is what recipes and Greengrass runtimes write
// (nucleus-contract §4.1, §8).
//
// The general libraries for Go differ from npm where it matters here: a
// pre-release version satisfies a range only if the range names a pre-release
// of the same major.minor.patch. The package knows nothing about components.
package semver
