package compat_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
)

const certificateARN = "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":cert/"

// certificates is IoT's part for certificates, CAs, principals and policies,
// through the real SDK.
type certificates struct {
	*kit
	iot *iot.Client
}

func TestAWSCertificates(t *testing.T) {
	k := awsKit(t)
	c := certificates{k, k.IoT()}
	for name, test := range map[string]func(*testing.T){
		"keys and certificate":                             c.keys,
		"a certificate for a CSR":                          c.csr,
		"status and deletion of a certificate":             c.life,
		"lists of certificates":                            c.lists,
		"a CA with its registration code":                  c.ca,
		"certificates of a registered CA":                  c.ofCA,
		"certificates without CA":                          c.withoutCA,
		"a principal and its things":                       c.principals,
		"policies and their versions":                      c.policies,
		"policies that cannot be":                          c.policiesRefused,
		"policies of certificates and groups":              c.attached,
		"a device connects, and loses what it may":         c.device,
		"what no SDK sends is refused by its member":       c.raw,
		"members of every operation that are not there":    c.missing,
		"a key that may only read changes no certificates": c.readOnly,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func (c certificates) make(t *testing.T, active bool) *iot.CreateKeysAndCertificateOutput {
	t.Helper()
	return must(c.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: active}))(t)
}

func (c certificates) describe(t *testing.T, id *string) *types.CertificateDescription {
	t.Helper()
	return must(c.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: id}))(t).CertificateDescription
}

func (c certificates) set(t *testing.T, id *string, s types.CertificateStatus) {
	t.Helper()
	must(c.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: id, NewStatus: s}))(t)
}

func (c certificates) keys(t *testing.T) {
	out := c.make(t, false)
	assert.Equal(t, certificateARN+*out.CertificateId, *out.CertificateArn)
	pair, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey))
	require.NoError(t, err)
	assert.Equal(t, *out.CertificateId, pki.ID(pair.Certificate[0]))
	assert.Equal(t, "AWS IoT Certificate", pair.Leaf.Subject.CommonName)
	assert.Contains(t, *out.KeyPair.PublicKey, "BEGIN PUBLIC KEY")

	d := c.describe(t, out.CertificateId)
	assert.Equal(t, types.CertificateStatusInactive, d.Status)
	assert.Equal(t, *out.CertificatePem, *d.CertificatePem)
	assert.Equal(t, awsAccount, *d.OwnedBy)
	assert.Equal(t, *out.CertificateArn, *d.CertificateArn)
	assert.Equal(t, types.CertificateModeDefault, d.CertificateMode)
	assert.EqualValues(t, 1, *d.CustomerVersion)
	assert.NotEmpty(t, *d.GenerationId)
	assert.True(t, pair.Leaf.NotAfter.Equal(*d.Validity.NotAfter))
	assert.True(t, pair.Leaf.NotBefore.Equal(*d.Validity.NotBefore))
	assert.WithinDuration(t, time.Now(), *d.CreationDate, time.Minute)
	assert.Equal(t, *d.CreationDate, *d.LastModifiedDate)
	ca := must(c.iot.DescribeCACertificate(t.Context(), &iot.DescribeCACertificateInput{CertificateId: d.CaCertificateId}))(t)
	assert.Equal(t, types.CACertificateStatusActive, ca.CertificateDescription.Status, "our own CA is shown")

	assert.Equal(t, types.CertificateStatusActive, c.describe(t, c.make(t, true).CertificateId).Status)
}

func (c certificates) csr(t *testing.T) {
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, "gateway")
	require.NoError(t, err)
	out := must(c.iot.CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String(string(csr)), SetAsActive: true}))(t)
	certs, err := pki.ParseCerts([]byte(*out.CertificatePem))
	require.NoError(t, err)
	assert.Equal(t, "gateway", certs[0].Subject.CommonName)
	assert.Equal(t, pki.ID(certs[0].Raw), *out.CertificateId)
	assert.Equal(t, types.CertificateStatusActive, c.describe(t, out.CertificateId).Status)
	for _, bad := range []string{"", "no CSR", strings.Repeat("x", 4097), strings.Replace(string(csr), "M", "N", 1)} {
		_, err = c.iot.CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &bad})
		failsAs[*types.InvalidRequestException](t, err, "certificateSigningRequest")
	}
}

func (c certificates) life(t *testing.T) {
	ctx, cert := t.Context(), c.make(t, true)
	for _, s := range []types.CertificateStatus{types.CertificateStatusPendingTransfer, types.CertificateStatusPendingActivation, types.CertificateStatusRegisterInactive} {
		_, err := c.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: cert.CertificateId, NewStatus: s})
		failsAs[*types.CertificateStateException](t, err, string(s))
	}
	_, err := c.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: cert.CertificateId, NewStatus: "GONE"})
	failsAs[*types.InvalidRequestException](t, err, "newStatus")
	_, err = c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId})
	failsAs[*types.CertificateStateException](t, err, "ACTIVE")
	c.set(t, cert.CertificateId, types.CertificateStatusRevoked)
	c.set(t, cert.CertificateId, types.CertificateStatusInactive)
	d := c.describe(t, cert.CertificateId)
	assert.EqualValues(t, 3, *d.CustomerVersion)
	assert.False(t, d.LastModifiedDate.Before(*d.CreationDate))
	must(c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId}))(t)
	_, err = c.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: cert.CertificateId})
	failsAs[*types.ResourceNotFoundException](t, err, *cert.CertificateId)
}

func (c certificates) lists(t *testing.T) {
	ctx := t.Context()
	var made []string
	for range 5 {
		made = append(made, *c.make(t, false).CertificateId)
	}
	list := func(ascending bool) (ids []string) {
		var marker *string
		for {
			out := must(c.iot.ListCertificates(ctx, &iot.ListCertificatesInput{PageSize: aws.Int32(2), Marker: marker, AscendingOrder: ascending}))(t)
			require.LessOrEqual(t, len(out.Certificates), 2)
			for _, x := range out.Certificates {
				assert.Equal(t, certificateARN+*x.CertificateId, *x.CertificateArn)
				assert.NotNil(t, x.CreationDate)
				ids = append(ids, *x.CertificateId)
			}
			if marker = out.NextMarker; marker == nil {
				return ids
			}
		}
	}
	only := func(ids []string) []string {
		return slices.DeleteFunc(ids, func(id string) bool { return !slices.Contains(made, id) })
	}
	assert.Equal(t, made, only(list(true)), "the oldest first")
	back := only(list(false))
	slices.Reverse(back)
	assert.Equal(t, made, back)
	_, err := c.iot.ListCertificates(ctx, &iot.ListCertificatesInput{Marker: aws.String("x")})
	failsAs[*types.InvalidRequestException](t, err, "marker")
	first := must(c.iot.ListCertificates(ctx, &iot.ListCertificatesInput{PageSize: aws.Int32(1)}))(t)
	_, err = c.iot.ListCertificates(ctx, &iot.ListCertificatesInput{Marker: first.NextMarker, AscendingOrder: true})
	failsAs[*types.InvalidRequestException](t, err, "marker", "other filters")
	_, err = c.iot.ListCertificates(ctx, &iot.ListCertificatesInput{PageSize: aws.Int32(251)})
	failsAs[*types.InvalidRequestException](t, err, "pageSize", "between 1 and 250")

	of := must(c.iot.ListCertificatesByCA(ctx, &iot.ListCertificatesByCAInput{CaCertificateId: c.describe(t, &made[0]).CaCertificateId, PageSize: aws.Int32(250)}))(t)
	assert.NotEmpty(t, of.Certificates)
	none := must(c.iot.ListCertificatesByCA(ctx, &iot.ListCertificatesByCAInput{CaCertificateId: aws.String(strings.Repeat("0", 64))}))(t)
	assert.Empty(t, none.Certificates)
}

func (c certificates) authority(t *testing.T, name string) (*pki.Authority, *string) {
	t.Helper()
	a, err := pki.NewRoot(name, time.Now(), 24*time.Hour)
	require.NoError(t, err)
	return a, aws.String(string(pki.EncodeCert(a.Cert.Raw)))
}

func sign(t *testing.T, a *pki.Authority, cn string) *string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := a.SignClient(pki.Client{Subject: pkix.Name{CommonName: cn}, Public: key.Public(), NotAfter: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	return aws.String(string(pki.EncodeCert(der)))
}

func (c certificates) ca(t *testing.T) {
	ctx := t.Context()
	code := must(c.iot.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{}))(t).RegistrationCode
	require.Len(t, *code, 64)
	a, pem := c.authority(t, "plant")
	_, err := c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem})
	failsAs[*types.InvalidRequestException](t, err, "verificationCertificate")
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, VerificationCertificate: sign(t, a, "another")})
	failsAs[*types.RegistrationCodeValidationException](t, err, "registration code")
	other, _ := c.authority(t, "plant")
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, VerificationCertificate: sign(t, other, *code)})
	failsAs[*types.CertificateValidationException](t, err, "not signed by the CA")
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: sign(t, a, "x"), CertificateMode: types.CertificateModeSniOnly})
	failsAs[*types.CertificateValidationException](t, err, "caCertificate")
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, CertificateMode: types.CertificateModeSniOnly, VerificationCertificate: sign(t, a, *code)})
	failsAs[*types.InvalidRequestException](t, err, "SNI_ONLY")

	out := must(c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{
		CaCertificate: pem, VerificationCertificate: sign(t, a, *code), SetAsActive: true, AllowAutoRegistration: true,
		RegistrationConfig: &types.RegistrationConfig{TemplateName: aws.String("plant"), RoleArn: aws.String(roleARN)},
		Tags:               []types.Tag{{Key: aws.String("site"), Value: aws.String("north")}},
	}))(t)
	assert.Equal(t, strings.Replace(certificateARN, "cert/", "cacert/", 1)+*out.CertificateId, *out.CertificateArn)
	assert.Equal(t, pki.ID(a.Cert.Raw), *out.CertificateId)
	_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, CertificateMode: types.CertificateModeSniOnly})
	exists := failsAs[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, *out.CertificateArn, aws.ToString(exists.ResourceArn))
	assert.Equal(t, *out.CertificateId, aws.ToString(exists.ResourceId))

	got := must(c.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: out.CertificateId}))(t)
	d := got.CertificateDescription
	assert.Equal(t, types.CACertificateStatusActive, d.Status)
	assert.Equal(t, types.AutoRegistrationStatusEnable, d.AutoRegistrationStatus)
	assert.Equal(t, types.CertificateModeDefault, d.CertificateMode)
	assert.Equal(t, *pem, *d.CertificatePem)
	assert.Equal(t, "plant", *got.RegistrationConfig.TemplateName)
	listed := must(c.iot.ListCACertificates(ctx, &iot.ListCACertificatesInput{TemplateName: aws.String("plant")}))(t)
	require.Len(t, listed.Certificates, 1)
	assert.Equal(t, *out.CertificateId, *listed.Certificates[0].CertificateId)

	_, err = c.iot.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: out.CertificateId})
	failsAs[*types.CertificateStateException](t, err, "INACTIVE")
	must(c.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{
		CertificateId: out.CertificateId, NewStatus: types.CACertificateStatusInactive, RemoveAutoRegistration: true,
	}))(t)
	got = must(c.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: out.CertificateId}))(t)
	assert.Equal(t, types.AutoRegistrationStatusDisable, got.CertificateDescription.AutoRegistrationStatus)
	assert.Nil(t, got.RegistrationConfig)
	assert.EqualValues(t, 2, *got.CertificateDescription.CustomerVersion)
	must(c.iot.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: out.CertificateId}))(t)
	_, err = c.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: out.CertificateId})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: out.CertificateId, NewStatus: types.CACertificateStatusActive})
	failsAs[*types.ResourceNotFoundException](t, err)

	for i := range 11 {
		_, pem := c.authority(t, "many")
		_, err = c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, CertificateMode: types.CertificateModeSniOnly})
		if i < 10 {
			require.NoError(t, err)
		}
	}
	failsAs[*types.LimitExceededException](t, err, "10 CA certificates")
	must(c.iot.DeleteRegistrationCode(ctx, &iot.DeleteRegistrationCodeInput{}))(t)
	_, err = c.iot.DeleteRegistrationCode(ctx, &iot.DeleteRegistrationCodeInput{})
	failsAs[*types.ResourceNotFoundException](t, err)
	assert.NotEqual(t, *code, *must(c.iot.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{}))(t).RegistrationCode)
}

func (c certificates) ofCA(t *testing.T) {
	ctx := t.Context()
	a, pem := c.authority(t, "signer")
	device := sign(t, a, "device")
	_, err := c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device})
	failsAs[*types.CertificateValidationException](t, err, "no CA that is registered")
	ca := must(c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pem, CertificateMode: types.CertificateModeSniOnly}))(t)
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device})
	failsAs[*types.CertificateStateException](t, err, "INACTIVE")
	must(c.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: ca.CertificateId, NewStatus: types.CACertificateStatusActive}))(t)
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device, Status: types.CertificateStatusPendingActivation})
	failsAs[*types.CertificateStateException](t, err)
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device, Status: types.CertificateStatusInactive, SetAsActive: aws.Bool(true)}) //nolint:staticcheck // deprecated, and still sent
	failsAs[*types.InvalidRequestException](t, err, "setAsActive")
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: aws.String("no PEM")})
	failsAs[*types.CertificateValidationException](t, err, "certificatePem")
	out := must(c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device, CaCertificatePem: pem, Status: types.CertificateStatusActive}))(t)
	d := c.describe(t, out.CertificateId)
	assert.Equal(t, *ca.CertificateId, *d.CaCertificateId)
	assert.Equal(t, types.CertificateModeSniOnly, d.CertificateMode)
	assert.Equal(t, types.CertificateStatusActive, d.Status)
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: device})
	exists := failsAs[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, *out.CertificateArn, aws.ToString(exists.ResourceArn))
	list := must(c.iot.ListCertificatesByCA(ctx, &iot.ListCertificatesByCAInput{CaCertificateId: ca.CertificateId}))(t)
	require.Len(t, list.Certificates, 1)
	assert.Equal(t, *out.CertificateId, *list.Certificates[0].CertificateId)

	twin, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: pki.Serial(), Subject: a.Cert.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}, a.Cert, a.Key.Public(), a.Key)
	require.NoError(t, err)
	must(c.iot.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: aws.String(string(pki.EncodeCert(twin))), CertificateMode: types.CertificateModeSniOnly, SetAsActive: true}))(t)
	second := sign(t, a, "second")
	_, err = c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: second})
	failsAs[*types.CertificateConflictException](t, err, "caCertificatePem")
	must(c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: second, CaCertificatePem: pem, SetAsActive: aws.Bool(true)}))(t) //nolint:staticcheck // deprecated, and still sent
}

func (c certificates) withoutCA(t *testing.T) {
	ctx := t.Context()
	a, _ := c.authority(t, "nobody knows")
	pem := sign(t, a, "device")
	out := must(c.iot.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: pem}))(t)
	d := c.describe(t, out.CertificateId)
	assert.Equal(t, types.CertificateStatusInactive, d.Status)
	assert.Equal(t, types.CertificateModeSniOnly, d.CertificateMode)
	assert.Nil(t, d.CaCertificateId)
	_, err := c.iot.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: pem})
	failsAs[*types.ResourceAlreadyExistsException](t, err)
	_, err = c.iot.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: aws.String("x")})
	failsAs[*types.CertificateValidationException](t, err)
	_, err = c.iot.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: sign(t, a, "y"), Status: types.CertificateStatusPendingTransfer})
	failsAs[*types.CertificateStateException](t, err)
}

// mqtt connects and returns the connection, or what the server refused it with.
// device is the walk of an AWS client that lets a device in with no other tool.
func (c certificates) raw(t *testing.T) {
	for _, q := range []struct{ method, path, body, word string }{
		{http.MethodPost, "/keys-and-certificate?setAsActive=yes", "", "setAsActive"},
		{http.MethodGet, "/certificates/abc", "", "certificateId"},
		{http.MethodPost, "/certificates", `{"certificateSigningRequest":7}`, "certificateSigningRequest"},
		{http.MethodPost, "/certificates", `{}`, "certificateSigningRequest"},
		{http.MethodPut, "/certificates/" + strings.Repeat("0", 64), "", "newStatus"},
		{http.MethodPost, "/cacertificate?setAsActive=1", `{"caCertificate":"x"}`, "setAsActive"},
		{http.MethodPut, "/things/x/principals", "", "x-amzn-principal"},
		{http.MethodPost, "/policies/p", `{}`, "policyDocument"},
		{http.MethodGet, "/policies/p/version/one", "", "policyVersionId"},
		{http.MethodPut, "/target-policies/p", `{}`, "target"},
	} {
		var body []byte
		if q.body != "" {
			body = []byte(q.body)
		}
		a := c.Raw(t, q.method, q.path, "iot", body)
		assert.Equal(t, http.StatusBadRequest, a.Status, q.path)
		assert.Equal(t, "InvalidRequestException", a.Header.Get("X-Amzn-Errortype"), q.path)
		assert.Contains(t, string(a.Body), q.word, q.path)
	}
}
