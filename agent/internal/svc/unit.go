package svc

const displayName = "ggfleet agent"

// Settings is the file that every unit reads variables of its environment from,
// NAME="VALUE" in each line.
const Settings = "/etc/ggfleet-agent/environment"

// unit is the systemd unit. Its comments are for whoever reads it on a device.
const unit = `[Unit]
Description=@DESCRIPTION@
Documentation=https://github.com/ggfleet/ggfleet
# It waits, without a failed unit in the list, until the device is enrolled or is
# to be: 'ggfleet-agent enroll' starts it then. The third is what the maker of an
# image puts there. The last two are for a device that has lost who it is: its copy,
# and a nucleus that is to run all the same.
ConditionPathExists=|@ROOT@/agent/identity.json
ConditionPathExists=|@ROOT@/agent/enroll.json
ConditionPathExists=|@ROOT@/enroll.json
ConditionPathExists=|@ROOT@/agent/identity.json.copy
ConditionPathExists=|@ROOT@/agent/install.json
Wants=network-online.target
After=network-online.target
# A device has nobody who would start it by hand after too many failures.
StartLimitIntervalSec=0

[Service]
# It says when it is up, and that its loops go on: one that hangs is killed and
# started again.
Type=notify
NotifyAccess=main
WatchdogSec=90
ExecStart=@EXEC@
# Become the program that lies there now, with the same process id; the nucleus
# goes on. This is what the upgrade of a package does.
ExecReload=/bin/kill -USR1 $MAINPID
Restart=always
RestartSec=5
# Proxies: HTTPS_PROXY, NO_PROXY.
EnvironmentFile=-` + Settings + `
SyslogIdentifier=@NAME@

# A nucleus that is a child of the agent outlives one that was killed, and is
# taken up by the next. On an orderly stop the agent stops it itself, for which
# the nucleus has 15 s.
KillMode=process
TimeoutStopSec=45
# The kernel may end a component that takes too much memory: that one, not the
# agent and the nucleus beside it.
OOMPolicy=continue
# The nucleus and its components are counted here as well.
TasksMax=infinity
LimitNOFILE=65536
# No core dumps: they would hold keys. Whatever wants its own may raise it.
LimitCORE=0:infinity

# What is allowed here is allowed to all that the agent starts, and no child gets
# back what is taken: package managers and their scripts, playbooks that the
# owner allows, a nucleus with its components, their users and containers. So:
#   no ProtectSystem, ProtectHome, ReadOnlyPaths, RestrictSUIDSGID: packages and
#     playbooks write everywhere, also set-user-id programs;
#   nothing that makes a mount namespace (PrivateTmp, ProtectKernel..., ...): what
#     a playbook mounts would be seen by the agent alone;
#   no NoNewPrivileges: components use sudo; no RestrictNamespaces,
#     ProtectControlGroups: they use containers; no PrivateDevices,
#     RestrictAddressFamilies, RestrictRealtime: serial ports, CAN, control loops;
#   no MemoryDenyWriteExecute: Java compiles as it runs;
#   no UMask: scripts of packages rely on the usual one. The agent gives each of
#     its files a mode.
# What is left to take:
# nobody reboots but by asking systemd; no wake-up timers, no process accounting
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_SYS_PACCT
LockPersonality=yes
KeyringMode=private
SystemCallFilter=~@obsolete @cpu-emulation
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`

// plist is the property list of launchd. It has no watchdog: an agent that hangs
// ends itself (Watchdog), and KeepAlive starts it again.
const plist = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>@NAME@</string>
	<key>ProgramArguments</key>
	<array>
@ARGUMENTS@
	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>ExitTimeOut</key>
	<integer>45</integer>
	<key>AbandonProcessGroup</key>
	<true/>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
		<key>Core</key>
		<integer>0</integer>
	</dict>
	<key>StandardOutPath</key>
	<string>@LOG@</string>
	<key>StandardErrorPath</key>
	<string>@LOG@</string>
</dict>
</plist>
`
