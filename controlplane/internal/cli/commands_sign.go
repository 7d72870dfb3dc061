package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/installer/signed"
)

const (
	signatureSuffix = ".minisig"
	// passwordVar holds the password of the private key: an argument would be in the
	// process list.
	passwordVar = "GGFLEET_KEY_PASSWORD" //nolint:gosec // its name
)

// releaseKeygen and releaseSign need no server: they are for the machine that
// has the key.
func releaseKeygen() *cobra.Command {
	return Failed(&cobra.Command{
		Use: "keygen FILE", Short: "Make a key pair to sign releases with, offline", Args: cobra.ExactArgs(1),
		Long: `Writes a private key to FILE and its public key to FILE.pub, in minisign's format.
The private key is encrypted with the password in ` + passwordVar + `; without
one it lies there as it is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, private, err := signed.NewKey(os.Getenv(passwordVar))
			if err != nil {
				return err
			}
			if err := writeNew(args[0], private, 0o600); err != nil {
				return err
			}
			if err := writeNew(args[0]+".pub", []byte("untrusted comment: minisign public key "+key.ID+"\n"+key.String()+"\n"), 0o644); err != nil {
				return err
			}
			if os.Getenv(passwordVar) == "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "ggfleet: %s is not encrypted: %s had no password\n", args[0], passwordVar)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "key %s: %s\n", key.ID, key)
			return err
		},
	})
}

func releaseSign() *cobra.Command {
	var keyFile, over string
	cmd := Failed(&cobra.Command{
		Use: "sign VERSION BINARY...", Short: "Sign the binaries of a release, offline", Args: cobra.MinimumNArgs(2),
		Long: `Writes the signature of each binary beside it. A binary is named
ggfleet-agent_VERSION_GOOS_GOARCH; version and platform are part of what is signed.
The password of the key is read from ` + passwordVar + `.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			private, err := os.ReadFile(keyFile)
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				s := signed.Statement{Version: args[0], Platform: platformOf(args[0], filepath.Base(name)), Over: over}
				if err := signFile(private, name, s); err != nil {
					return fmt.Errorf("signing %s: %w", name, err)
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s%s: %s\n", name, signatureSuffix, s); err != nil {
					return err
				}
			}
			return nil
		},
	})
	cmd.Flags().StringVar(&keyFile, "key", "", "private key")
	cmd.Flags().StringVar(&over, "over", "", "let devices go back to this release from versions up to this one")
	_ = cmd.MarkFlagRequired("key") // the flag is there
	return cmd
}

// platformOf reads the platform from a binary's name, "" if there is none.
func platformOf(version, name string) string {
	rest, _ := strings.CutPrefix(strings.TrimSuffix(name, ".exe"), signed.Program+"_"+version+"_")
	goos, arch, _ := strings.Cut(rest, "_")
	return goos + "/" + arch
}

func signFile(private []byte, name string, s signed.Statement) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	sig, err := signed.Sign(private, os.Getenv(passwordVar), f, s)
	if err != nil {
		return err
	}
	return os.WriteFile(name+signatureSuffix, sig, 0o644) //nolint:gosec // public
}

// writeNew writes a file that must not be there.
func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// seconds reads a duration of whole seconds.
func seconds(text string) (int, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 {
		return 0, fmt.Errorf("%q is not a duration of whole seconds, such as 10m", text)
	}
	return int(d / time.Second), nil
}
