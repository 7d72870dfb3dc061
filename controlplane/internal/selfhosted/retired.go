package selfhosted

import (
	"context"
	"errors"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// DropCertificate detaches an INACTIVE certificate from the thing and removes it
// unless another thing has it as well. One that is gone is no error.
func (c *Cloud) DropCertificate(ctx context.Context, thing, certificate string) error {
	err := c.Registry.DetachPrincipal(ctx, thing, certificate)
	if err == nil {
		err = c.Registry.DeleteCertificate(ctx, certificate, true)
	}
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Conflict) {
		return nil
	}
	return err
}
