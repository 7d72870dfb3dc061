package renew

import "context"

// Look is one look at the certificates.
func (l *Loop) Look(ctx context.Context) error { return l.look(ctx) }
