// Package release keeps releases of the agent and decides which device is
// offered which. A release is files: a binary for each platform with its
// signature, and what a technician installs from. A rollout says which devices
// are offered it: a name pattern, a share of them that grows over a while, and
// after how many failures it stops by itself. What each device says of its
// version and its last update is kept beside.
//
// Who is in is decided by a hash of version and device: the same device stays in
// while the share grows, and it is not always the same devices that are first.
//
// The control plane only carries signatures; devices believe keys of their own.
// With keys given here, a wrong signature is refused when it is uploaded. The
// package knows neither HTTP nor what a device is but its name.
package release
