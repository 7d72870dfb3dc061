// Package app puts the control plane together: the one place that knows which
// adapter stands behind which port.
//
// New opens the stores, makes what a first start needs and binds every listener,
// so that a taken port or an unusable directory is an error before anything is
// served. Run serves until its context is done and then stops within five
// seconds. The order of both is written in app.go and nowhere else.
package app
