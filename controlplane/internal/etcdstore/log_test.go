package etcdstore_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
)

func TestOnlyWhatMattersOfEtcdsLogPasses(t *testing.T) {
	var out bytes.Buffer
	log := zap.New(etcdstore.Bridge(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	log.Info("quiet")
	log.Warn("a setting of ours", zap.String("why", "on purpose"))
	log.Error("failed to update storage version")
	log.With(zap.Int("member", 7)).Error("disk is full")
	require.NoError(t, log.Sync())
	assert.NotContains(t, out.String(), "quiet")
	assert.NotContains(t, out.String(), "storage version")
	assert.Contains(t, out.String(), `level=DEBUG msg=etcd event="a setting of ours" why="on purpose"`)
	assert.Contains(t, out.String(), `level=ERROR msg=etcd event="disk is full" member=7`)
}
