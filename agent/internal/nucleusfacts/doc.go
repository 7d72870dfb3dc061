// Package nucleusfacts reads on the device what a nucleus knows: which
// components it runs and in which state, what its effective configuration is,
// and how its logs fare. Each runtime tells in its own way: the simulated one by
// a state file, lite by its systemd units, classic by greengrass-cli where that
// is deployed and by config/effectiveConfig.yaml otherwise (nucleus-contract §7).
//
// Whatever is read is bounded and looked at only when it may have changed: a
// device that idles should sleep. No configuration value leaves the package, and
// its digest covers an allow list: names, versions and endpoints, no secrets.
//
// It does not know what becomes of the facts, nor how a nucleus is run.
package nucleusfacts
