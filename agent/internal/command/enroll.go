package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const enrollLong = `Enrols this device with a control plane, in one of four ways:

  enroll STRING                            the string of an activation; "-" reads
                                           it from standard input, which keeps it
                                           out of the process list
  enroll --url URL --ca FILE --cert FILE --key-file FILE
                                           the certificate of a thing of this fleet
  enroll --url URL --ca FILE --claim-cert FILE --claim-key FILE
                                           a claim, which a rule there approves
  enroll --url URL --ca FILE [--name NAME] nothing: somebody approves; the command
                                           prints what the two compare, and waits

--file FILE says all of that as JSON; ROOT/enroll.json is taken at the first
start of the service. An enrolment that was interrupted goes on when the command
is run again without arguments, or by itself when the service starts. Done again
in the same way it says so, and makes good what is missing.

The agent's own key is made on this device. --key says where it is kept: file
(default), tpm, tpm:PATH, or pkcs11:token=LABEL?module-path=FILE&pin-source=FILE
in a build that can.`

func (o *options) enroll() *cobra.Command {
	var e app.Enrollment
	var allow, claimCert, claimKey string
	c := &cobra.Command{Use: "enroll [STRING]", Short: "Make this device known to a control plane", Long: enrollLong, Args: cobra.MaximumNArgs(1)}
	f := c.Flags()
	f.StringVar(&allow, "allow", "", "what the control plane may do here, see 'allow'")
	f.StringVar(&e.File, "file", "", "`file` that says how to enrol")
	f.StringVar(&e.URL, "url", "", "https `address` of the control plane for devices")
	f.StringVar(&e.CAFile, "ca", "", "`file` with its root certificate")
	f.StringVar(&e.CAFingerprint, "ca-fingerprint", "", "`SHA-256` of its root certificate, instead of --ca")
	f.StringVar(&e.CertFile, "cert", "", "`file` with the certificate of a thing")
	f.StringVar(&e.KeyFile, "key-file", "", "`file` with the key of --cert")
	f.StringVar(&claimCert, "claim-cert", "", "`file` with the certificate of a claim")
	f.StringVar(&claimKey, "claim-key", "", "`file` with its key")
	f.StringVar(&e.Name, "name", "", "the `thing` that this device wants to be")
	f.StringVar(&e.Serial, "serial", "", "serial number, if not the hardware's")
	f.StringVar(&e.Role, "role", "", "core (default) or client")
	f.StringVar(&e.Key, "key", "", "`where` the agent's key is kept: file, tpm, tpm:PATH, pkcs11:…")
	f.BoolVar(&e.Again, "again", false, "enrol a device anew that is enrolled: the same thing with another key")
	c.MarkFlagsMutuallyExclusive("ca", "ca-fingerprint")
	c.MarkFlagsMutuallyExclusive("cert", "claim-cert")
	c.MarkFlagsRequiredTogether("cert", "key-file")
	c.MarkFlagsRequiredTogether("claim-cert", "claim-key")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		if f := cmd.Flags(); len(args) > 0 && slices.ContainsFunc([]string{"url", "ca", "ca-fingerprint", "cert", "claim-cert"}, f.Changed) {
			return errors.New("the string of an activation says where to go and whom to trust by itself; give either it, or --url with what belongs to it")
		}
		if claimCert != "" {
			e.CertFile, e.KeyFile = claimCert, claimKey
		}
		e.OnPending = func(request, fingerprint string) {
			fmt.Fprintf(cmd.OutOrStdout(), "waiting to be let in: key %s\n"+
				"unless a rule or this device's certificate decides, compare the key and approve it: 'ggfleet enrollment approve %s'\n"+
				"^C ends the waiting; this command or the service goes on with it\n", fingerprint, request)
		}
		cfg.Enroll = e
		err = o.enrolNow(cmd, cfg, allow, args)
		if errors.Is(err, app.ErrNothingSaid) {
			return err // of the command line
		}
		return work(func(*cobra.Command, []string) error { return err })(cmd, args)
	}
	return c
}

func (o *options) enrolNow(cmd *cobra.Command, cfg app.Config, allow string, args []string) error {
	if err := app.Allow(o.root, allow, true); err != nil {
		return err
	}
	text := ""
	if len(args) > 0 {
		text = args[0]
	}
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 8<<10))
		if err != nil {
			return err
		}
		text = string(b)
	}
	e, err := app.Enroll(cmd.Context(), cfg, text)
	if errors.Is(err, context.Canceled) {
		return errors.New("not enrolled yet; run 'ggfleet-agent enroll' to go on, or start the service")
	}
	if err != nil {
		return err
	}
	already, kind := "", "core"
	if !e.Fresh {
		already = "already "
	}
	if e.Device.Role == protocol.RoleClient {
		kind = "client device"
	}
	if _, err = fmt.Fprintf(cmd.OutOrStdout(), "%senrolled as %s for %s %s at %s\n", already, e.AgentThing, kind, e.Device.Name, e.URL); err != nil {
		return err
	}
	return app.WakeService(cmd.OutOrStdout(), o.root)
}
