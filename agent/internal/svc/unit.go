package svc

// unit is the systemd unit, in the service library's own small template
// language. Why each line that is not usual:
//
//   - Type=notify, WatchdogSec: the agent tells when it is up and that it lives;
//     one that hangs is started again.
//   - KillMode=process: a nucleus outlives an agent that was killed and is taken
//     up by the next one. On an orderly stop the agent stops it itself.
//   - TimeoutStopSec: the nucleus has 15 s to stop, and the agent some more.
//   - StartLimitIntervalSec=0: a device has nobody who would start it by hand.
const unit = `[Unit]
Description={{Description}}
Documentation=https://github.com/ggfleet/ggfleet
ConditionFileIsExecutable={{Path | cmdEscape}}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={{Path | cmdEscape}}{{range Arguments}} {{. | cmd}}{{end}}
Restart=always
RestartSec=5
WatchdogSec=90
KillMode=process
TimeoutStopSec=45
UMask=0027
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`
