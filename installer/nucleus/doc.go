// Package nucleus puts a Greengrass nucleus on a device and takes it back.
//
// Three runtimes are known, by what their distribution looks like (Layout,
// Inspect): a program with a manifest (distribution.json: the simulated one),
// the classic nucleus in AWS's zip, and nucleus lite as deb, rpm or bare files.
// Several versions lie side by side below the site's root:
//
//	ROOT/versions/<name>-<version>-<first 8 of digest>/   one unpacked archive each
//	ROOT/versions/.before/   what each step found, for its undo
//	ROOT/versions/.kept/     the package that somebody else had installed
//	ROOT/current -> versions/...                          the one that runs (program, lite as files)
//	ROOT/alts/current -> ROOT/alts/ggfleet-... -> versions/...   the same for classic
//	ROOT/config/config.yaml, cert.pem, private.key, ...   what the core needs
//
// Installing is a Plan: steps that can be shown, run again, and undone (Site.Plan).
// The plan prepares and touches nothing that runs; one step more, the switch, makes
// the version the one that starts next, by one rename where the runtime allows it
// (a package is dpkg's or rpm's to install). Nothing is unpacked before the
// archive's digest is verified.
//
// A site's root must be a folder that only root can write: classic's own root, or
// a folder of the agent's for lite, whose /var/lib/greengrass belongs to its
// daemons. Labels of SELinux are not set: a device that enforces it needs a policy
// that lets systemd run programs below the root.
//
// The package does not start or stop the nucleus and does not know where archives
// come from. The host is behind System.
package nucleus
