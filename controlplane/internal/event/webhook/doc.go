// Package webhook carries one event in one HTTP request: the body is a
// CloudEvent, the signature that of Standard Webhooks, and the addresses that can
// be reached are limited. It makes one attempt and says what became of it; when
// there is a next one is the business of package event, whose port Sender it
// fulfils. It knows no store.
package webhook
