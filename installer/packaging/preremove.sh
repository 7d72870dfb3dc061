#!/bin/sh
# Before the files go. dpkg says "remove", or "upgrade"; rpm how many versions
# stay. An upgrade leaves the agent running.
set -e
unit=ggfleet-agent.service

case "$1" in
remove)
	if [ -d /run/systemd/system ]; then systemctl stop "$unit" || true; fi
	;;
0)
	if [ -d /run/systemd/system ]; then systemctl stop "$unit" || true; fi
	if command -v systemctl >/dev/null; then systemctl disable "$unit" || true; fi
	;;
esac
