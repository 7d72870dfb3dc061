// Package provisioning is the grammar of provisioning templates: what thing,
// certificate and policies a core or client device gets (cdf-services §4.3-4.5).
//
// [Parse] reads a template, [Bind] fills in one device's parameters and gives a
// [Plan] to carry out. Both are pure. [Templates] keeps the documents in the object
// store.
//
// The package does not carry plans out: it knows no registry, no certificate
// authority and no cloud.
package provisioning
