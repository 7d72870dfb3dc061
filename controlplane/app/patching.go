package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/artifact"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// openPatching puts the device patcher together.
func (a *App) openPatching(ctx context.Context) error {
	secret, err := ensureSecret(ctx, a.hub, a.sealer, "patch-links")
	if err != nil {
		return err
	}
	links := patchLinks{url: "https://" + a.hostPort(a.listeners.device), secret: secret, objects: a.objects}
	signer, err := artifact.NewSigner(artifact.Config{PublicURL: links.url, Secret: secret})
	if err != nil {
		return err
	}
	if a.patchDownloads, err = artifact.NewHandler(artifact.HandlerConfig{Signer: signer, Objects: a.objects, Log: a.log}); err != nil {
		return err
	}
	a.patching, err = patching.New(patching.Config{
		Store: a.hub, Objects: a.objects, Devices: a.enrollment, Links: links, Notices: patchNotices{a.gateway},
		ArtifactPrefix: a.cfg.ArtifactPrefix, AllowPrefixes: a.cfg.PatchPrefixes, Expiry: time.Duration(a.cfg.PatchDays) * 24 * time.Hour, Log: a.log,
	})
	return err
}

// patchParts is what of the device patcher an App holds.
type patchParts struct {
	patching       *patching.Service
	patchDownloads http.Handler
}

// patchLinks makes links on the device HTTPS listener: what patches link to holds
// private keys.
type patchLinks struct {
	url     string
	secret  []byte
	objects object.Store
}

// Link implements patching.Links.
func (l patchLinks) Link(ctx context.Context, key string, life time.Duration) (string, error) {
	info, err := l.objects.Stat(ctx, key)
	if err != nil {
		return "", err
	}
	signer, err := artifact.NewSigner(artifact.Config{PublicURL: l.url, Secret: l.secret, TTL: life})
	if err != nil {
		return "", err
	}
	version := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", key, info.Size, info.ModTime.UnixNano()))
	return signer.URL(key, hex.EncodeToString(version[:]), path.Base(key))
}

// patchNotices tells the agents that are connected to this process.
type patchNotices struct{ g *gateway.Gateway }

// PatchWaits implements patching.Notices.
func (n patchNotices) PatchWaits(device string) {
	n.g.Push(protocol.AgentThing(device), gateway.Message{Topic: protocol.PatchTopic(device), Payload: []byte("{}")})
}
