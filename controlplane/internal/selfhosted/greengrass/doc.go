// Package greengrass is the Greengrass V2 service of the self-hosted cloud:
// deployments with their targets and revisions, and core devices with what they
// report (spec greengrassv2-api §7, §14, §15; nucleus-contract §2.4, §3, §6.3).
//
// A target (a thing or a thing group) has one deployment at a time; each new one
// is the next revision. Every deployment travels as a job, also to a single
// thing: both runtimes accept it, and lite knows nothing else. Who is in a group
// when a deployment is made, or joins later, gets an execution.
//
// The members of a group get theirs by its rollout: a record says what is left to
// do, one process does it (RunRollouts), at the rate and until the criterion that
// the deployment names (package rollout, greengrassv2-api §11). A commit that ends
// a deployment makes the record say so and cancels the job, on which every hand-out
// is conditional: nobody gets it afterwards.
//
// The components themselves are package component's; the registry is package
// iot's; devices are told by package jobs. This package does not know the fleet
// service.
package greengrass
