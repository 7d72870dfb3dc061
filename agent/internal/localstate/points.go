package localstate

import (
	"slices"
	"strings"
)

// Point names one step of the agent's work after which the device or the
// control plane is different. The kill test ends a real agent before and after
// each of them.
type Point string

// The table of durable steps, in the order of a first installation and an
// update. A step that is carried out and not listed fails a test.
const (
	EnrollIntent   Point = "enroll-intent"   // how to enrol is stored
	EnrollKey      Point = "enroll-key"      // the agent's key is stored
	EnrollCall     Point = "enroll-call"     // the control plane knows the agent
	EnrollIdentity Point = "enroll-identity" // the agent knows who it is
	EnrollForget   Point = "enroll-forget"   // the secret of the enrolment is gone

	CoreKey         Point = "core-key"              // the core's key is stored
	CoreCertCall    Point = "core-certificate-call" // the control plane has signed it
	CoreCertificate Point = "core-certificate"      // the core's certificate is stored
	CoreCA          Point = "core-ca"               // what the core trusts is stored
	CoreConfig      Point = "core-config"           // the installer configuration is stored

	Forget   Point = "forget"   // the version before the current one is given up, to make room
	Download Point = "download" // the archive is here
	Prepare  Point = "prepare"  // the intent to install a version is stored
	Unpack   Point = "unpack"   // the version lies beside the others
	Trial    Point = "trial"    // the intent to change the version is stored
	Switch   Point = "switch"   // current points to the new version

	NucleusIntent Point = "nucleus-intent" // a start is about to happen
	NucleusStart  Point = "nucleus-start"  // the process runs
	NucleusRecord Point = "nucleus-record" // its pid is stored

	Commit Point = "commit" // the version on trial is the version
	Revert Point = "revert" // current points to the old version again
	Reject Point = "reject" // the failed version is remembered as such
	Prune  Point = "prune"  // older versions are gone

	PatchIntent Point = "patch-intent" // the run of a patch has a name
	PatchCall   Point = "patch-call"   // the control plane knows that it was taken
	PatchStart  Point = "patch-start"  // its start is about to happen
	PatchRun    Point = "patch-run"    // the playbook has run
	PatchEnd    Point = "patch-end"    // its result is stored
	PatchReport Point = "patch-report" // the control plane has the result
	PatchForget Point = "patch-forget" // nothing of it is left here

	UpdateDownload Point = "update-download" // the release is here, not to be executed
	UpdateStage    Point = "update-stage"    // it is verified and in its slot
	UpdateTrial    Point = "update-trial"    // the intent to try it is stored
	UpdateStart    Point = "update-start"    // a start of a release is counted
	UpdateCommit   Point = "update-commit"   // it is the agent
	UpdateReturn   Point = "update-return"   // its trial is over, or put aside
	UpdateJudge    Point = "update-judge"    // whether it is to blame for that is stored
	UpdateSettle   Point = "update-settle"   // its starts are forgotten
	UpdatePrune    Point = "update-prune"    // other releases are gone
)

// What else is done to the nucleus of a device. PlanStep names the steps of a plan
// of package installer/nucleus.
const (
	Adopt  Point = "adopt"  // a nucleus that was found is remembered
	Settle Point = "settle" // the new version is trusted

	CoreSwapIntent Point = "core-swap-intent" // the core's old certificate and key are kept aside
	CoreSwap       Point = "core-swap"        // the new ones are where the nucleus reads them
	CoreSwapEnd    Point = "core-swap-end"    // they have proved themselves; the old ones are gone
	CoreSwapBack   Point = "core-swap-back"   // the old ones are back

	PlanAccounts      Point = "plan-accounts"
	PlanSetup         Point = "plan-setup"
	PlanLaunchFolder  Point = "plan-launch-folder"
	PlanUnit          Point = "plan-unit"
	PlanEnable        Point = "plan-enable"
	PlanKeep          Point = "plan-keep"
	PlanLinks         Point = "plan-links"
	PlanPrograms      Point = "plan-programs"
	PlanFolders       Point = "plan-folders"
	PlanKeys          Point = "plan-keys"
	PlanConfiguration Point = "plan-configuration"
	PlanDisable       Point = "plan-disable"
	PlanLaunchFolders Point = "plan-launch-folders"
	PlanPackage       Point = "plan-package"
	PlanFiles         Point = "plan-files"
)

// PlanStep is the point of a step of an installation's plan.
func PlanStep(name string) Point {
	if name == "unpack" {
		return Unpack
	}
	return Point("plan-" + strings.ReplaceAll(name, " ", "-"))
}

// The steps of a renewal of the agent's own certificate, and of its device's.
const (
	RenewIntent  Point = "renew-intent"  // the new key has a name
	RenewKey     Point = "renew-key"     // it is there
	RenewCall    Point = "renew-call"    // the control plane has signed it
	RenewStore   Point = "renew-store"   // the certificate is stored beside the old one
	RenewSwitch  Point = "renew-switch"  // it has proved itself and is the agent's; the old one is kept
	RenewConfirm Point = "renew-confirm" // the control plane has ended the old one
	RenewDrop    Point = "renew-drop"    // the old key is gone
	RenewForget  Point = "renew-forget"  // nothing of the renewal is left

	DeviceRenewIntent  Point = "device-renew-intent"  // the device's new key is stored
	DeviceRenewCall    Point = "device-renew-call"    // the control plane has signed it
	DeviceRenewStore   Point = "device-renew-store"   // the certificate is stored beside the old one
	DeviceRenewInstall Point = "device-renew-install" // the device works with it
	DeviceRenewConfirm Point = "device-renew-confirm" // the control plane has ended the old one
	DeviceRenewForget  Point = "device-renew-forget"  // nothing of the renewal is left
)

// Remote help leaves nothing on the device; these are what the control plane or
// a nucleus has of it.
const (
	HelpTake    Point = "help-take"    // the control plane knows that a request was taken
	HelpPart    Point = "help-part"    // the control plane has a part of the answer
	HelpRestart Point = "help-restart" // the nucleus or a component was restarted
	HelpReport  Point = "help-report"  // the control plane knows how it ended
)

// The steps of a client device.
const (
	ClientKey         Point = "client-key"              // the device's key is stored
	ClientCertCall    Point = "client-certificate-call" // the control plane has signed it
	ClientCertificate Point = "client-certificate"      // the device's certificate is stored
	ClientTrust       Point = "client-trust"            // what the control plane or a core is trusted by is stored
	ClientConfig      Point = "client-config"           // the application's file is stored
	ClientPrune       Point = "client-prune"            // what was known of a core that is gone is removed
	ClientSwap        Point = "client-swap"             // another certificate with its key is the device's
)

// ClientPoints are those of a client device.
func ClientPoints() []Point {
	return []Point{ClientKey, ClientCertCall, ClientCertificate, ClientTrust, ClientConfig, ClientPrune, ClientSwap}
}

// Points returns the whole table.
func Points() []Point {
	return slices.Concat(LifePoints(), RenewPoints(), UpdatePoints(), HelpPoints(), ClientPoints(), NucleusPoints())
}

// HelpPoints are those of what was asked from afar.
func HelpPoints() []Point { return []Point{HelpTake, HelpPart, HelpRestart, HelpReport} }

// LifePoints are those of a device's life: enrolled, installed, patched, updated.
func LifePoints() []Point {
	return []Point{
		EnrollIntent, EnrollKey, EnrollCall, EnrollIdentity, EnrollForget, CoreKey, CoreCertCall, CoreCertificate, CoreCA, CoreConfig,
		Forget, Download, Prepare, Unpack, Trial, Switch, NucleusIntent, NucleusStart, NucleusRecord, Commit, Revert, Reject, Prune,
		PatchIntent, PatchCall, PatchStart, PatchRun, PatchEnd, PatchReport, PatchForget,
	}
}

// RenewPoints are those of a renewal of certificates.
func RenewPoints() []Point {
	return []Point{
		RenewIntent, RenewKey, RenewCall, RenewStore, RenewSwitch, RenewConfirm, RenewDrop, RenewForget,
		DeviceRenewIntent, DeviceRenewCall, DeviceRenewStore, DeviceRenewInstall, DeviceRenewConfirm, DeviceRenewForget,
	}
}

// NucleusPoints are those of a nucleus that is more than a program in an archive:
// classic and lite, one that is adopted, a change of its certificate.
func NucleusPoints() []Point {
	return []Point{
		Adopt, Settle, CoreSwapIntent, CoreSwap, CoreSwapEnd, CoreSwapBack,
		PlanAccounts, PlanSetup, PlanLaunchFolder, PlanUnit, PlanEnable, PlanKeep, PlanLinks, PlanPrograms, PlanFolders, PlanKeys, PlanConfiguration,
		PlanDisable, PlanLaunchFolders, PlanPackage, PlanFiles,
	}
}

// UpdatePoints are those of the agent's own updates.
func UpdatePoints() []Point {
	return []Point{UpdateDownload, UpdateStage, UpdateTrial, UpdateStart, UpdateCommit, UpdateReturn, UpdateJudge, UpdateSettle, UpdatePrune}
}

// Around is called for each step with what carries it out, and must call do
// once. It is how a test watches and breaks the agent.
type Around func(p Point, do func() error) error
