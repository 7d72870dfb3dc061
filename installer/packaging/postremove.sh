#!/bin/sh
# After the files are gone. What the agent keeps (identity, keys, nucleus) stays,
# and a package that is installed again goes on with it. Only "purge" removes it;
# rpm has none: 'ggfleet-agent uninstall --purge' before 'rpm -e' does it.
set -e
unit=ggfleet-agent.service

if [ "$1" = purge ]; then
	# 'ggfleet-agent uninstall --purge' before takes the nucleus that the agent
	# installed off the device. Without it here goes what would lead nowhere: the
	# units and links of a nucleus lite that runs from our folder.
	if [ -L /var/lib/ggfleet-nucleus/current ]; then
		if [ -d /run/systemd/system ]; then systemctl stop greengrass-lite.target 'ggl.*' || true; fi
		find /etc/systemd/system \( -name 'ggl.*' -o -name greengrass-lite.target \) -delete
		find /etc/tmpfiles.d -name '*.conf' -exec grep -q ' /run/greengrass' {} \; -delete
		find /usr/local/bin /usr/bin -lname '/var/lib/ggfleet-nucleus/*' -delete
	fi
	if grep -qs Greengrass /etc/systemd/system/greengrass.service; then
		echo "ggfleet-agent: the nucleus of greengrass.service stays and goes on" >&2
	fi
	rm -rf /var/lib/ggfleet-agent /var/lib/ggfleet-nucleus /etc/ggfleet-agent
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge "$unit" >/dev/null || true
		deb-systemd-helper unmask "$unit" >/dev/null || true
	fi
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
