package awscloud

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/smithy-go"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// HasCore is part of cloud.CoreDevices.
func (c *Cloud) HasCore(ctx context.Context, name string) (bool, error) {
	_, err := c.core(ctx, name)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Core is part of cloud.CoreDevices. AWS does not say here whether the device is
// connected: it was last seen when its status was last updated.
func (c *Cloud) Core(ctx context.Context, name string) (cloud.CoreDevice, error) {
	d, err := c.core(ctx, name)
	if err != nil {
		return cloud.CoreDevice{}, err
	}
	out := cloud.CoreDevice{
		Status: string(d.Status), CoreVersion: aws.ToString(d.CoreVersion), Platform: aws.ToString(d.Platform),
		Architecture: aws.ToString(d.Architecture), Runtime: aws.ToString(d.Runtime),
		LastStatusUpdate: aws.ToTime(d.LastStatusUpdateTimestamp), LastSeen: aws.ToTime(d.LastStatusUpdateTimestamp), Tags: d.Tags,
	}
	pages := greengrassv2.NewListInstalledComponentsPaginator(c.greengrass, &greengrassv2.ListInstalledComponentsInput{
		CoreDeviceThingName: &name, TopologyFilter: types.InstalledComponentTopologyFilterAll, MaxResults: aws.Int32(pageGreengrass),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return out, failed(err, "listing what is installed on %s", name)
		}
		for _, x := range page.InstalledComponents {
			out.Installed = append(out.Installed, cloud.InstalledComponent{
				Name: aws.ToString(x.ComponentName), Version: aws.ToString(x.ComponentVersion), State: string(x.LifecycleState),
				Reason: aws.ToString(x.LifecycleStateDetails), IsRoot: x.IsRoot,
			})
		}
	}
	out.EffectiveDeployments, err = c.effective(ctx, name)
	return out, err
}

func (c *Cloud) core(ctx context.Context, name string) (*greengrassv2.GetCoreDeviceOutput, error) {
	d, err := c.greengrass.GetCoreDevice(ctx, &greengrassv2.GetCoreDeviceInput{CoreDeviceThingName: &name})
	if absent(err) {
		return nil, fault.New(fault.NotFound, "core device %s never reported", name)
	}
	if err != nil {
		return nil, failed(err, "reading core device %s", name)
	}
	return d, nil
}

func (c *Cloud) effective(ctx context.Context, name string) (out []cloud.EffectiveDeployment, err error) {
	pages := greengrassv2.NewListEffectiveDeploymentsPaginator(c.greengrass, &greengrassv2.ListEffectiveDeploymentsInput{
		CoreDeviceThingName: &name, MaxResults: aws.Int32(pageGreengrass),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return out, failed(err, "listing the effective deployments of %s", name)
		}
		for _, e := range page.EffectiveDeployments {
			out = append(out, cloud.EffectiveDeployment{
				DeploymentID: aws.ToString(e.DeploymentId), DeploymentName: aws.ToString(e.DeploymentName), Description: aws.ToString(e.Description),
				JobID: aws.ToString(e.IotJobId), JobARN: aws.ToString(e.IotJobArn), TargetARN: aws.ToString(e.TargetArn),
				Status: string(e.CoreDeviceExecutionStatus), Reason: aws.ToString(e.Reason),
				CreatedAt: aws.ToTime(e.CreationTimestamp), UpdatedAt: aws.ToTime(e.ModifiedTimestamp),
			})
		}
	}
	return out, nil
}

// ForgetCore is part of cloud.CoreDevices.
func (c *Cloud) ForgetCore(ctx context.Context, name string) error {
	if _, err := c.greengrass.DeleteCoreDevice(ctx, &greengrassv2.DeleteCoreDeviceInput{CoreDeviceThingName: &name}); err != nil && !absent(err) {
		return failed(err, "forgetting core device %s", name)
	}
	return nil
}

// Associate implements cloud.Associations.
func (c *Cloud) Associate(ctx context.Context, core, device string, commit func(*state.Batch) error) error {
	out, err := c.greengrass.BatchAssociateClientDeviceWithCoreDevice(ctx, &greengrassv2.BatchAssociateClientDeviceWithCoreDeviceInput{
		CoreDeviceThingName: &core, Entries: []types.AssociateClientDeviceWithCoreDeviceEntry{{ThingName: &device}},
	})
	if err != nil {
		return failed(err, "associating %s with core %s", device, core)
	}
	for _, e := range out.ErrorEntries {
		return entryFailed(aws.ToString(e.Code), aws.ToString(e.Message), "associating "+device+" with core "+core)
	}
	return commit(state.NewBatch(state.StepAssociate))
}

// Disassociate implements cloud.Associations.
func (c *Cloud) Disassociate(ctx context.Context, core, device string, commit func(*state.Batch) error) error {
	out, err := c.greengrass.BatchDisassociateClientDeviceFromCoreDevice(ctx, &greengrassv2.BatchDisassociateClientDeviceFromCoreDeviceInput{
		CoreDeviceThingName: &core, Entries: []types.DisassociateClientDeviceFromCoreDeviceEntry{{ThingName: &device}},
	})
	if err != nil && !absent(err) {
		return failed(err, "ending the association of %s with core %s", device, core)
	}
	if err == nil {
		for _, e := range out.ErrorEntries {
			if err := entryFailed(aws.ToString(e.Code), aws.ToString(e.Message), "ending the association of "+device+" with core "+core); !errors.Is(err, fault.NotFound) {
				return err
			}
		}
	}
	return commit(state.NewBatch(state.StepAssociate))
}

// entryFailed is the error of one entry of a batch call.
func entryFailed(code, message, what string) error {
	return failed(&smithy.GenericAPIError{Code: code, Message: message}, "%s", what)
}

// Associated implements cloud.Associations.
func (c *Cloud) Associated(ctx context.Context, core string, each func(device string) error) error {
	var all []string
	pages := greengrassv2.NewListClientDevicesAssociatedWithCoreDevicePaginator(c.greengrass, &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{
		CoreDeviceThingName: &core, MaxResults: aws.Int32(pageGreengrass),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil
		}
		if err != nil {
			return failed(err, "listing the client devices of core %s", core)
		}
		for _, d := range page.AssociatedClientDevices {
			all = append(all, aws.ToString(d.ThingName))
		}
	}
	slices.Sort(all)
	for _, d := range all {
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}
