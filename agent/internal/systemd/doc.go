// Package systemd reads what 'systemctl show' prints.
//
// It runs nothing, and what the properties mean to somebody is theirs to say.
package systemd
