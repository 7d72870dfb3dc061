// Package arch holds the rules of the repository as tests: who may import whom
// and why, one comment for each package, every dependency explained, no path
// of somebody's machine. It has no code of its own and reads the sources as
// text, so that files for other systems and build tags count as well.
//
// Its inputs lie outside this module, where go test's cache does not look: use
// -count=1 (as make lint does) to be sure of an answer.
package arch
