// Package app puts the agent together: it alone knows which part stands behind
// which port. A command is one function here.
package app
