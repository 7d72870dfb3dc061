// Package nucleus puts a Greengrass nucleus on a device and takes it back.
//
// A distribution is an archive with a manifest, distribution.json, that says
// how to start it (Manifest). Several versions lie side by side:
//
//	ROOT/versions/<name>-<version>-<first 8 of digest>/   one unpacked archive each
//	ROOT/current -> versions/...                          the one that runs
//	ROOT/config/config.yaml, cert.pem, private.key, ...   what the core needs
//
// Installing is a Plan: steps that can be shown, run again, and undone. Nothing
// is unpacked before the archive's digest is verified, and nothing of another
// version is touched, so the old one can be switched back to until the caller
// prunes it.
//
// The package does not start processes and does not know where archives come
// from.
package nucleus
