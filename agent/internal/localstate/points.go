package localstate

import "slices"

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

	Download Point = "download" // the archive is here
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

// The steps of a renewal of the agent's own certificate, and of the core's.
const (
	RenewIntent  Point = "renew-intent"  // the new key has a name
	RenewKey     Point = "renew-key"     // it is there
	RenewCall    Point = "renew-call"    // the control plane has signed it
	RenewStore   Point = "renew-store"   // the certificate is stored beside the old one
	RenewSwitch  Point = "renew-switch"  // it has proved itself and is the agent's; the old one is kept
	RenewConfirm Point = "renew-confirm" // the control plane has ended the old one
	RenewDrop    Point = "renew-drop"    // the old key is gone
	RenewForget  Point = "renew-forget"  // nothing of the renewal is left

	CoreRenewIntent  Point = "core-renew-intent"  // the core's new key is stored
	CoreRenewCall    Point = "core-renew-call"    // the control plane has signed it
	CoreRenewStore   Point = "core-renew-store"   // the certificate is stored beside the old one
	CoreRenewInstall Point = "core-renew-install" // the nucleus works with it
	CoreRenewConfirm Point = "core-renew-confirm" // the control plane has ended the old one
	CoreRenewForget  Point = "core-renew-forget"  // nothing of the renewal is left
)

// Remote help leaves nothing on the device; these are what the control plane or
// a nucleus has of it.
const (
	HelpTake    Point = "help-take"    // the control plane knows that a request was taken
	HelpPart    Point = "help-part"    // the control plane has a part of the answer
	HelpRestart Point = "help-restart" // the nucleus or a component was restarted
	HelpReport  Point = "help-report"  // the control plane knows how it ended
)

// Points returns the whole table.
func Points() []Point {
	return slices.Concat(LifePoints(), RenewPoints(), UpdatePoints(), HelpPoints())
}

// HelpPoints are those of what was asked from afar.
func HelpPoints() []Point { return []Point{HelpTake, HelpPart, HelpRestart, HelpReport} }

// LifePoints are those of a device's life: enrolled, installed, patched, updated.
func LifePoints() []Point {
	return []Point{
		EnrollIntent, EnrollKey, EnrollCall, EnrollIdentity, EnrollForget, CoreKey, CoreCertCall, CoreCertificate, CoreCA, CoreConfig,
		Download, Unpack, Trial, Switch, NucleusIntent, NucleusStart, NucleusRecord, Commit, Revert, Reject, Prune,
		PatchIntent, PatchCall, PatchStart, PatchRun, PatchEnd, PatchReport, PatchForget,
	}
}

// RenewPoints are those of a renewal of certificates.
func RenewPoints() []Point {
	return []Point{
		RenewIntent, RenewKey, RenewCall, RenewStore, RenewSwitch, RenewConfirm, RenewDrop, RenewForget,
		CoreRenewIntent, CoreRenewCall, CoreRenewStore, CoreRenewInstall, CoreRenewConfirm, CoreRenewForget,
	}
}

// UpdatePoints are those of the agent's own updates.
func UpdatePoints() []Point {
	return []Point{UpdateDownload, UpdateStage, UpdateTrial, UpdateStart, UpdateCommit, UpdateReturn, UpdateJudge, UpdateSettle, UpdatePrune}
}

// Around is called for each step with what carries it out, and must call do
// once. It is how a test watches and breaks the agent.
type Around func(p Point, do func() error) error
