package reconcile

import "context"

// Pass and ReadCertsZip are for tests that feed the loop step by step.
func (l *Loop) Pass(ctx context.Context) error { return l.pass(ctx) }

// ReadCertsZip is readCertsZip.
func ReadCertsZip(b []byte) (cert, key []byte, err error) { return readCertsZip(b) }
