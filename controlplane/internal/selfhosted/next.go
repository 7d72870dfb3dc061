package selfhosted

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var errNext = fault.New(fault.Unsupported, "not served yet")

func (c *Cloud) Import(context.Context, cloud.ImportRequest) (cloud.Issued, error) {
	return cloud.Issued{}, errNext
}
func (c *Cloud) Describe(context.Context, string) (cloud.ThingDetail, error) {
	return cloud.ThingDetail{}, errNext
}
func (c *Cloud) IssuePrivate(context.Context, string, cloud.PrivateRequest) (cloud.PrivateCertificate, error) {
	return cloud.PrivateCertificate{}, errNext
}
