package doctor

import "slices"

// checks is the table of all checks, in the order in which they run: what others
// need comes first. Codes stay what they are for ever; a check that goes takes
// its code with it.
func checks() []Check {
	return slices.Concat(hostChecks(), identityChecks(), networkChecks(), nucleusChecks(), agentChecks())
}

// Checks returns the table, for those who want to read what can be wrong.
func Checks() []Check { return checks() }

func hostChecks() []Check {
	return []Check{
		{"D101", "folder", "The agent cannot write to its folder.", "Make the folder writable for the user that the agent runs as; look at the next checks for a full or read-only disk.", nil, checkFolder},
		{"D102", "read-only", "The file system of the agent's folder is mounted read-only, often after an error of the disk.", "Look at the kernel's log for disk errors, check the file system, and mount it for writing.", nil, checkReadOnly},
		{"D103", "disk", "The disk that holds the agent's folder is nearly full.", "Remove what is not needed; a nucleus and its update need about 500 MB.", nil, checkDisk},
		{"D104", "inodes", "The file system has no room for more files, though it may have for bytes.", "Find the folder with very many small files and remove them.", nil, checkInodes},
		{"D105", "execution", "Programs cannot be started from the agent's folder: it is mounted noexec.", "Mount it without noexec, or move the agent with --root.", []string{"D101"}, checkExecution},
		{"D106", "memory", "There is little memory left; the system may kill the nucleus or the agent.", "See which program uses it; limit components with systemResourceLimits.", nil, checkMemory},
		{"D107", "load", "The machine has more to do than it can.", "See which program uses the processors; limit components with systemResourceLimits.", nil, checkLoad},
		{"D108", "temperature", "The machine is so hot that it slows down or turns off.", "See to its cooling.", nil, checkTemperature},
		{"D109", "clock", "The clock shows a time that cannot be: certificates look as if they had expired, or were not valid yet.", "Set the clock; turn on time synchronisation (timedatectl set-ntp true).", nil, checkClock},
		{"D110", "synchronisation", "Nothing keeps the clock right.", "Turn on time synchronisation: timedatectl set-ntp true, or a chrony that reaches a server.", []string{"D109"}, checkSynchronised},
		{"D111", "rights", "The agent does not run as administrator: it cannot make users, services or run components as others.", "Run it as root, as the service does.", nil, checkRights},
		{"D112", "open files", "The limit of open files is too low for a nucleus and its components.", "Raise LimitNOFILE of the service, or the limits of the user.", nil, checkOpenFiles},
		{"D113", "service manager", "There is no systemd to keep agent and nucleus running.", "Use a system with systemd, or have something else start 'ggfleet-agent run'. Nucleus lite needs systemd.", nil, checkManager},
		{"D114", "service", "The agent is not a service that starts with the machine and runs.", "Run 'ggfleet-agent install' and 'ggfleet-agent start'.", []string{"D113"}, checkService},
		{"D115", "cgroups", "There are no control groups for memory and processors: limits of components have no effect.", "Boot with control groups: cgroup_enable=memory on the kernel's command line of small boards.", nil, checkCgroups},
		{"D116", "platform", "There is no Greengrass nucleus for this system.", "Use a supported one: Linux on x86-64, arm64 or armv7.", nil, checkPlatform},
	}
}

func identityChecks() []Check {
	return []Check{
		{"D201", "enrolment", "This device is not enrolled.", "Run 'ggfleet-agent enroll' with the string of an activation.", nil, checkEnrolled},
		{"D202", "identity", "What enrolment left is damaged, or its key does not belong to its certificate.", "Start the agent: it takes the identity from its copy if that is good. Otherwise stop it, enrol again with the same string or with a new activation, and start it; its nucleus runs meanwhile.", []string{"D201"}, checkIdentity},
		{"D203", "key files", "Other users of this machine can read a private key.", "Take their rights away (chmod 600), and renew the certificate if somebody may have read it.", []string{"D201"}, checkSecrets},
		{"D204", "agent certificate", "The agent's certificate has expired or soon will, though it should have been renewed before.", "See the checks of clock and network: the agent renews it by itself as soon as it gets through, also a while after its end.", []string{"D202", "D109"}, checkAgentCertificate},
	}
}

func networkChecks() []Check {
	return []Check{
		{"D301", "interfaces", "No network interface is up and has an address.", "Look at cable, radio and DHCP.", nil, checkInterfaces},
		{"D302", "proxy", "The proxy settings cannot be used.", "Correct HTTPS_PROXY and NO_PROXY of the agent's service. MQTT goes past a proxy: let port 8883 of the control plane through.", nil, checkProxy},
		{"D303", "DNS", "The name of the control plane is not known here.", "Correct the name server, or put the name into /etc/hosts.", []string{"D301"}, checkDNS},
		{"D304", "HTTPS port", "The control plane's HTTPS port cannot be reached.", "See whether the control plane runs, and let the port through every firewall between.", []string{"D302", "D303"}, checkHTTPSPort},
		{"D305", "HTTPS trust", "What answers on the HTTPS port is not the control plane that this device was enrolled with.", "See what stands between: an inspecting proxy, a wrong address, a captive portal. If the control plane's CA was replaced, enrol anew.", []string{"D304"}, checkHTTPSTrust},
		{"D306", "server certificate", "The control plane's own certificate soon ends, and with it every connection.", "Tell whoever runs the control plane to renew it.", []string{"D305", "D109"}, checkServerCertificate},
		{"D307", "time", "The clocks of this device and of the control plane differ.", "Set the clock of the one that is wrong, and see to its synchronisation.", []string{"D305", "D109"}, checkOffset},
		{"D308", "admission", "The control plane does not let this agent in: its certificate was revoked, or its policy does not allow it.", "Look at the device in the control plane; enrol anew if it was revoked by mistake.", []string{"D305"}, checkAdmission},
		{"D309", "MQTT port", "The control plane's MQTT port cannot be reached: no report gets through, and a nucleus gets no deployment.", "Let the port through every firewall between; of proxies only a SOCKS proxy in ALL_PROXY helps here.", []string{"D303"}, checkMQTTPort},
		{"D310", "MQTT trust", "What answers on the MQTT port is not the control plane, or does not take this agent's certificate.", "See what stands between, and the check of admission.", []string{"D309"}, checkMQTTTrust},
	}
}

func nucleusChecks() []Check {
	return []Check{
		{"D401", "configuration", "The core has no installer configuration, or one that is not of this core.", "Let the agent run and get through: it fetches the configuration. If there is none, create the core with installer config, or correct its template.", []string{"D202"}, checkConfiguration},
		{"D402", "core certificate", "The core's certificate cannot be used, has expired or soon will.", "Let the agent get through to the control plane: it renews the certificate. If it is damaged, remove the file: the agent fetches it anew.", []string{"D401", "D109"}, checkCoreCertificate},
		{"D403", "core trust", "The nucleus does not trust the control plane: its root CA file lacks the CA of the enrolment.", "Remove the root CA file: the agent writes it anew.", []string{"D401"}, checkCoreTrust},
		{"D404", "nucleus", "No nucleus is installed.", "Offer one: 'ggfleet nucleus import FILE --activate' at the control plane, or 'ggfleet-agent nucleus install --archive FILE' here.", []string{"D401"}, checkInstalled},
		{"D405", "Java", "Nucleus classic needs a Java runtime of version 8 or newer.", "Install one, such as the package default-jre-headless.", []string{"D404"}, checkJava},
		{"D406", "users", "The user or group that components run as does not exist.", "Make them, or let 'ggfleet-agent nucleus install' do it.", []string{"D404"}, checkUsers},
		{"D407", "nucleus program", "The program of the nucleus is gone or cannot be executed.", "Restart the agent: it installs the version anew. See the checks of disk and execution.", []string{"D404"}, checkProgram},
		{"D408", "nucleus process", "The nucleus does not run.", "Look at 'ggfleet-agent logs' and at the nucleus's log; see the checks before this one.", []string{"D407"}, checkRunning},
		{"D409", "units", "A systemd unit of the nucleus is not active.", "Look at 'systemctl status' and 'journalctl -u' of the unit.", []string{"D404", "D113"}, checkUnits},
		{"D410", "crash loop", "The nucleus ends again and again.", "Look at its log. Going back is possible: 'ggfleet-agent nucleus rollback'.", []string{"D404"}, checkCrashLoop},
		{"D411", "rejected version", "A version of the nucleus was tried, failed, and the old one runs again.", "Look at the reason; offer another version.", []string{"D404"}, checkRejected},
		{"D412", "data endpoint", "The nucleus cannot reach its MQTT endpoint.", "Correct iotDataEndpoint of the installer configuration, the name server or the firewall.", []string{"D401", "D301"}, checkDataEndpoint},
		{"D413", "credentials endpoint", "The nucleus cannot reach its credentials endpoint; lite asks there in every deployment.", "Correct iotCredEndpoint of the installer configuration, the name server or the firewall.", []string{"D401", "D301"}, checkCredentialsEndpoint},
		{"D414", "data plane", "The nucleus cannot reach the data plane: no component can be resolved or downloaded.", "Correct greengrassDataPlaneEndpoint and greengrassDataPlanePort, the name server or the firewall.", []string{"D401", "D301"}, checkDataPlane},
		{"D415", "nucleus log", "The nucleus logs errors.", "Read them: 'ggfleet-agent logs --nucleus'.", []string{"D404"}, checkLog},
		{"D416", "nucleus disk", "The disk that holds the nucleus's folder is nearly full or read-only.", "Remove what is not needed, or move the nucleus.", []string{"D404"}, checkNucleusDisk},
		{"D417", "nucleus files", "Files of the nucleus are gone or damaged: they are not what was unpacked. The disk may be failing.", "Stop the agent, remove the folder of that version below versions, and start the agent: it fetches and unpacks it again when the control plane offers it. Without a control plane: 'ggfleet-agent nucleus install --archive FILE'.", nil, checkFiles},
	}
}

func agentChecks() []Check {
	return []Check{
		{"D501", "waiting reports", "Many reports wait to be sent: the control plane does not know how this device is.", "See the checks of the MQTT port and trust.", []string{"D201"}, checkWaiting},
		{"D502", "lost reports", "Reports were given up because they waited too long for a connection.", "Nothing; their numbers are missing in the history. See whether the connection is good enough.", []string{"D201"}, checkDropped},
		{"D503", "patches", "Patches are allowed, and there is no ansible-playbook to run them.", "Install Ansible, or take the permission back: 'ggfleet-agent forbid patches'.", nil, checkPatches},
		{"D504", "rejected update", "A newer agent was tried, failed, and the old one runs again.", "Look at the reason at the control plane; offer another release.", nil, checkUpdate},
		{"D505", "records", "A record of the agent was damaged; it was taken from its copy, or begun anew. The disk may be failing.", "Look at the kernel's log for disk errors. The file named holds what was found; remove it when it is of no more use.", nil, checkRecords},
	}
}
