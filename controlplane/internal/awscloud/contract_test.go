package awscloud_test

import (
	"context"
	"testing"

	"github.com/ggfleet/ggfleet/controlplane/internal/awscloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud/cloudtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
)

// The adapter goes through the real SDK, over HTTP and verified signatures, to
// ggfleet's own AWS endpoint: nothing else that tests can reach speaks this API.
// Things and certificates are the self-hosted cloud's, as is what AWS does not
// tell of core devices.
func TestTheAdapterKeepsTheContract(t *testing.T) {
	cloudtest.Run(t, func(t *testing.T) cloudtest.Subject {
		t.Helper()
		k := newKit(t)
		return cloudtest.Subject{
			Components: k.AWS, Deployments: k.AWS, Associations: k.AWS, CoreDevices: cores{k.World, k.AWS},
			Things: k.World, PrivateCA: k.World,
			Commit: k.Commit, Finish: k.Finish, Appear: k.Appear, Ail: k.Ail, Pass: k.Pass, Connects: k.Connects,
			PrivateCAARN: k.Registry.PrivateCAARN(), CA: k.CA.Issuer, CAID: k.CA.ID,
			Policy: selfhostedtest.Policy, Component: "com.example.App", Polled: true,
		}
	})
}

// cores asks AWS for what it tells.
type cores struct {
	cloud.CoreDevices
	aws *awscloud.Cloud
}

func (c cores) HasCore(ctx context.Context, name string) (bool, error) {
	return c.aws.HasCore(ctx, name)
}

func (c cores) Core(ctx context.Context, name string) (cloud.CoreDevice, error) {
	return c.aws.Core(ctx, name)
}

func (c cores) ForgetCore(ctx context.Context, name string) error {
	return c.aws.ForgetCore(ctx, name)
}
