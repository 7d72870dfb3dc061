// Package cli is the operator's command line: thin commands over the client that
// is generated from the fleet API's document.
//
// It knows the API and nothing behind it. The serve command is handed in.
//
// Exit codes: 0 done; 1 the server refused or failed; 2 the command line is
// wrong; 3 the thing asked for does not exist; 4 not allowed (no token, a wrong
// one, or too small a role); 5 the server cannot be reached; 6 a task that was
// waited for ended in Failure.
package cli
