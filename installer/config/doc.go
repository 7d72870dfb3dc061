// Package config writes and adapts the installer configuration of a core
// device: the YAML that a Greengrass nucleus reads when it is installed
// (cdf-services §5, nucleus-contract §1.1).
//
// A Generator makes the document for one core. Generators are found by the
// alias that callers name in a core task (Registry). On the device,
// RewriteSystemPaths moves the paths of the system block to where the agent
// installs, and ReadSystem tells which paths those are.
//
// The package knows no cloud and no file system: bytes in, bytes out.
package config
