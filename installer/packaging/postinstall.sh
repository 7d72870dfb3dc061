#!/bin/sh
# After the files are there. dpkg says "configure" and the version before, rpm how
# many versions are installed now.
set -e
unit=ggfleet-agent.service

case "$1" in
configure | abort-upgrade | abort-deconfigure | abort-remove)
	# Debian's helper knows what an administrator chose before.
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper unmask "$unit" >/dev/null || true
		if deb-systemd-helper --quiet was-enabled "$unit"; then
			deb-systemd-helper enable "$unit" >/dev/null || true
		else
			deb-systemd-helper update-state "$unit" >/dev/null || true
		fi
	elif [ -z "$2" ] && command -v systemctl >/dev/null; then
		systemctl enable "$unit" || true
	fi
	;;
1)
	if command -v systemctl >/dev/null; then systemctl enable "$unit" || true; fi
	;;
esac

# In a chroot or a container being built nothing runs.
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
if systemctl --quiet is-active "$unit"; then
	# The running agent becomes the new program; the nucleus goes on.
	systemctl reload "$unit" || true
elif systemctl --quiet is-enabled "$unit" 2>/dev/null; then
	# Without an enrolment this waits.
	systemctl start "$unit" || true
fi
