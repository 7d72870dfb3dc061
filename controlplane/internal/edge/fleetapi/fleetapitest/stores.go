package fleetapitest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// CreateComponentVersion reads name and version by their lines, and one artifact
// for each line that names one.
func (f *Fake) CreateComponentVersion(_ context.Context, recipe []byte) (fleetapi.ComponentVersion, error) {
	done, err := f.lock()
	defer done()
	f.LastRecipe = recipe
	if err != nil {
		return fleetapi.ComponentVersion{}, err
	}
	v := fleetapi.ComponentVersion{State: "DEPLOYABLE", CreatedAt: Now()}
	for line := range strings.Lines(string(recipe)) {
		k, val, _ := strings.Cut(strings.TrimSpace(line), ":")
		val = strings.Trim(strings.TrimSpace(val), `",`)
		switch strings.Trim(strings.TrimPrefix(k, "- "), `"`) {
		case "ComponentName":
			v.Name = val
		case "ComponentVersion":
			v.Version = val
		case "URI":
			v.MissingArtifacts = append(v.MissingArtifacts, strings.TrimPrefix(val, "greengrass:"))
			v.State = "INITIATED"
		}
	}
	if v.Name == "" || v.Version == "" {
		return v, fault.Field("ComponentName", "is missing")
	}
	for _, old := range f.comps[v.Name] {
		if old.Version == v.Version {
			return v, fault.New(fault.Exists, "component %s version %s exists", v.Name, v.Version)
		}
	}
	v.ARN = "arn:aws:greengrass:us-east-1:000000000000:components:" + v.Name + ":versions:" + v.Version
	f.comps[v.Name] = append(f.comps[v.Name], v)
	return v, nil
}

// AddStub puts a stub in the store.
func (f *Fake) AddStub(name, version string) {
	f.comps[name] = append(f.comps[name], fleetapi.ComponentVersion{
		ARN: "arn:aws:greengrass:us-east-1:aws:components:" + name + ":versions:" + version, Name: name, Version: version, State: "DEPLOYABLE", Stub: true, CreatedAt: Now(),
	})
}

// Artifact returns what was uploaded.
func (f *Fake) Artifact(name string) string { return f.artifacts[name] }

// PutArtifact reads all of r and checks it against size.
func (f *Fake) PutArtifact(_ context.Context, name, version, artifact string, r io.Reader, size int64) (fleetapi.ComponentVersion, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return fleetapi.ComponentVersion{}, fmt.Errorf("reading the artifact: %w", err)
	}
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleetapi.ComponentVersion{}, err
	}
	if size >= 0 && int64(len(b)) != size {
		return fleetapi.ComponentVersion{}, fmt.Errorf("%d bytes came, %d were promised", len(b), size)
	}
	for i, v := range f.comps[name] {
		if v.Version == version {
			f.artifacts[artifact] = string(b)
			v.MissingArtifacts = slices.DeleteFunc(v.MissingArtifacts, func(m string) bool { return m == artifact })
			if len(v.MissingArtifacts) == 0 {
				v.State = "DEPLOYABLE"
			}
			f.comps[name][i] = v
			return v, nil
		}
	}
	return fleetapi.ComponentVersion{}, missing("component", name)
}

// Components lists the latest versions.
func (f *Fake) Components(_ context.Context, p fleet.Page) ([]fleetapi.ComponentVersion, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	var latest []fleetapi.ComponentVersion
	for _, vs := range sorted(f.comps) {
		latest = append(latest, vs[len(vs)-1])
	}
	return pageOf(latest, func(v fleetapi.ComponentVersion) string { return v.Name }, p)
}

// ComponentVersions lists the versions of one.
func (f *Fake) ComponentVersions(_ context.Context, name string, p fleet.Page) ([]fleetapi.ComponentVersion, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(f.comps[name], func(v fleetapi.ComponentVersion) string { return v.Version }, p)
}

// ComponentVersion returns one version.
func (f *Fake) ComponentVersion(_ context.Context, name, version string) (fleetapi.ComponentVersion, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleetapi.ComponentVersion{}, err
	}
	for _, v := range f.comps[name] {
		if v.Version == version {
			return v, nil
		}
	}
	return fleetapi.ComponentVersion{}, missing("component", name)
}

// DeleteComponentVersion forgets a version.
func (f *Fake) DeleteComponentVersion(_ context.Context, name, version string) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	n := len(f.comps[name])
	f.comps[name] = slices.DeleteFunc(f.comps[name], func(v fleetapi.ComponentVersion) bool { return v.Version == version })
	if len(f.comps[name]) == n {
		return missing("component", name)
	}
	if len(f.comps[name]) == 0 {
		delete(f.comps, name)
	}
	return nil
}

// PutProvisioningTemplate stores a document.
func (f *Fake) PutProvisioningTemplate(_ context.Context, id string, doc []byte, m provisioning.Match) (string, error) {
	done, err := f.lock()
	defer done()
	if err == nil {
		err = f.holds(id, m)
	}
	if err != nil {
		return "", err
	}
	f.docs[id] = doc
	return etagOf(doc), nil
}

func etagOf(doc []byte) string {
	h := sha256.Sum256(doc)
	return hex.EncodeToString(h[:8])
}

func (f *Fake) holds(id string, m provisioning.Match) error {
	doc, ok := f.docs[id]
	switch {
	case m == provisioning.Any, m == provisioning.IfExists && ok, m == provisioning.IfAbsent && !ok, ok && string(m) == etagOf(doc):
		return nil
	}
	return fault.New(fault.Stale, "provisioning template %s is another one; read it again", id)
}

// DeleteProvisioningTemplate forgets a document.
func (f *Fake) DeleteProvisioningTemplate(_ context.Context, id string, m provisioning.Match) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	if f.docs[id] == nil {
		return missing("provisioning template", id)
	}
	if err := f.holds(id, m); err != nil {
		return err
	}
	delete(f.docs, id)
	return nil
}

// ProvisioningTemplate returns a document.
func (f *Fake) ProvisioningTemplate(_ context.Context, id string) ([]byte, string, error) {
	d, err := get(f, f.docs, "provisioning template", id)
	return d, etagOf(d), err
}

// ProvisioningTemplates lists documents.
func (f *Fake) ProvisioningTemplates(context.Context) ([]fleetapi.ProvisioningTemplateInfo, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, err
	}
	var out []fleetapi.ProvisioningTemplateInfo
	for _, id := range slices.Sorted(maps.Keys(f.docs)) {
		out = append(out, fleetapi.ProvisioningTemplateInfo{ID: id, Size: int64(len(f.docs[id])), UpdatedAt: Now()})
	}
	return out, nil
}

// CreateActivation makes an activation with a fixed code.
func (f *Fake) CreateActivation(_ context.Context, a fleetapi.NewActivation) (fleetapi.IssuedActivation, error) {
	done, err := f.lock()
	defer done()
	f.LastActivation = a
	if err != nil {
		return fleetapi.IssuedActivation{}, err
	}
	id := fmt.Sprintf("3b241101-e2bb-4255-8caf-%012d", len(f.acts)+1)
	f.acts[id] = fleetapi.Activation{ID: id, DeviceID: a.DeviceID, CreatedAt: Now(), ExpiresAt: Now().Add(a.ValidFor), RegistrationLimit: a.Registrations}
	return fleetapi.IssuedActivation{ID: id, Code: "Kq7Wn2Zx5Rt8Yb3Mf6Hd", Region: "us-east-1", Enrollment: "ggf1.example"}, nil
}

// Activation returns an activation.
func (f *Fake) Activation(_ context.Context, id string) (fleetapi.Activation, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleetapi.Activation{}, err
	}
	a, ok := f.acts[id]
	if !ok {
		return a, missing("activation", id)
	}
	return a, nil
}

// DeleteActivation forgets an activation.
func (f *Fake) DeleteActivation(_ context.Context, id string) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	if _, ok := f.acts[id]; !ok {
		return missing("activation", id)
	}
	delete(f.acts, id)
	return nil
}

// Tokens is the port of tokens. Those it makes Authenticate does not know.
type Tokens struct{ f *Fake }

// Create makes a token.
func (t Tokens) Create(_ context.Context, name string, role access.Role) (logx.Secret, error) {
	done, err := t.f.lock()
	defer done()
	if err != nil {
		return logx.Secret{}, err
	}
	if slices.ContainsFunc(t.f.tokens, func(o access.Token) bool { return o.Name == name }) {
		return logx.Secret{}, fault.New(fault.Exists, "there is a token named %q", name)
	}
	t.f.tokens = append(t.f.tokens, access.Token{Name: name, Role: role, Created: Now()})
	return logx.NewSecret("text-of-" + name), nil
}

// List lists tokens.
func (t Tokens) List(context.Context) ([]access.Token, error) {
	done, err := t.f.lock()
	defer done()
	return slices.Clone(t.f.tokens), err
}

// Revoke forgets a token.
func (t Tokens) Revoke(_ context.Context, name string) error {
	done, err := t.f.lock()
	defer done()
	if err != nil {
		return err
	}
	n := len(t.f.tokens)
	t.f.tokens = slices.DeleteFunc(t.f.tokens, func(o access.Token) bool { return o.Name == name })
	if len(t.f.tokens) == n {
		return missing("token", name)
	}
	return nil
}

// Keys is the port of access keys.
type Keys struct{ f *Fake }

// Create makes a key with a fixed secret.
func (k Keys) Create(_ context.Context, description string, role access.Role) (access.Key, error) {
	done, err := k.f.lock()
	defer done()
	if err != nil {
		return access.Key{}, err
	}
	key := access.Key{ID: fmt.Sprintf("AKIAEXAMPLE%05d", len(k.f.keysOf)+1), Description: description, Role: cmp.Or(role, access.Admin), Created: Now()}
	k.f.keysOf = append(k.f.keysOf, key)
	key.Secret = logx.NewSecret("secret/example+key")
	return key, nil
}

// List lists keys.
func (k Keys) List(context.Context) ([]access.Key, error) {
	done, err := k.f.lock()
	defer done()
	return slices.Clone(k.f.keysOf), err
}

// Revoke forgets a key.
func (k Keys) Revoke(_ context.Context, id string) error {
	done, err := k.f.lock()
	defer done()
	if err != nil {
		return err
	}
	n := len(k.f.keysOf)
	k.f.keysOf = slices.DeleteFunc(k.f.keysOf, func(o access.Key) bool { return o.ID == id })
	if len(k.f.keysOf) == n {
		return missing("access key", id)
	}
	return nil
}

// Info describes no server.
func (f *Fake) Info(context.Context) (fleetapi.Info, error) {
	return fleetapi.Info{
		Version: "1.2.3", Region: "us-east-1", Account: "000000000000", Bucket: "ggfleet",
		Addresses: map[string]string{fleetapi.AddressAPI: "http://127.0.0.1:8080", fleetapi.AddressAWS: "http://127.0.0.1:4566"},
	}, f.Fail
}

// CA describes no CA.
func (f *Fake) CA(context.Context) (fleetapi.CA, error) {
	return fleetapi.CA{ID: "ca-1", RootFingerprint: strings.Repeat("ab", 32), IssuerFingerprint: strings.Repeat("cd", 32), BundlePEM: []byte("-----BEGIN CERTIFICATE-----\n")}, f.Fail
}

// Ready returns Fail.
func (f *Fake) Ready(context.Context) error { return f.Fail }
