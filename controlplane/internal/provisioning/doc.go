// Package provisioning makes things out of provisioning templates (cdf-services
// §4).
//
// [Parse] reads a template, [Bind] fills in one device's parameters and gives a
// [Plan]; both are pure. [Templates] keeps the documents in the object store.
// [Provisioner] makes, in memory, all that a plan asks for: whoever registers it
// does so in one commit, together with what else belongs to it. [Service] is the
// service of that name, for things that no task of the fleet makes.
//
// The package reaches registry and certificate authorities through the ports of
// package cloud only, and knows nothing of cores.
package provisioning
