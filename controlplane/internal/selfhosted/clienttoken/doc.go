// Package clienttoken repeats the answer of an AWS request whose clientToken was
// used before (greengrassv2-api §6): for eight hours, also after a restart and
// on another replica. The answer is committed together with what the request did,
// so that there is never the one without the other; failures are not remembered.
//
// It knows no protocol and no operation: names and answers are its caller's.
package clienttoken
