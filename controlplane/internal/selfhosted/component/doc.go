// Package component is the store of component versions: recipes in the store of
// record, artifacts in the object store, and the choice of the version that a
// core is to run (greengrassv2-api §13, nucleus-contract §4.1, §5.2, §8).
//
// A version never changes once it is DEPLOYABLE. One with artifacts becomes so
// when the last of them is uploaded, or read where the author put it; until then
// no core is offered it. What Request takes is read after its answer, by one
// replica at a time; the record alone says what is to be done. Devices get the
// recipe in its normal form, with digests, and fetch every file by the
// greengrass: scheme.
//
// The package knows no SDK, no HTTP and no deployments; whoever deploys says
// through Config.InUse what must not be deleted.
package component
