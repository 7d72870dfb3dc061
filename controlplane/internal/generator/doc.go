// Package generator calls installer config generators that are somebody else's
// program: it sends what a generator is told about a core to a URL and takes
// the document from the answer (cdf-services §5.1, docs/generators.md).
//
// Nothing is tried again here: an error says whether that could help, and the
// task engine decides. The package knows no task and no cloud.
package generator
