#!/bin/sh
# After the files are gone. What the agent keeps (identity, keys, nucleus) stays,
# and a package that is installed again goes on with it. Only "purge" removes it;
# rpm has none: 'ggfleet-agent uninstall --purge' before 'rpm -e' does it.
set -e
unit=ggfleet-agent.service

if [ "$1" = purge ]; then
	rm -rf /var/lib/ggfleet-agent /etc/ggfleet-agent
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge "$unit" >/dev/null || true
		deb-systemd-helper unmask "$unit" >/dev/null || true
	fi
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
