// Package scripts holds the install scripts of a release of the agent: install.sh
// for Linux and macOS, install.ps1 for Windows. Its tests run install.sh; nothing
// here runs install.ps1.
package scripts
