package etcdstore

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap/zapcore"

	"github.com/ggfleet/ggfleet/shared/logx"
)

// zapBridge hands etcd's log to slog. Only warnings and worse pass, and
// warnings as debug records: at each start etcd warns about settings that are
// ours on purpose.
type zapBridge struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func bridge(log *slog.Logger) zapcore.Core {
	if log == nil {
		log = logx.Discard()
	}
	return &zapBridge{log: log}
}

// Enabled implements zapcore.Core.
func (*zapBridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (z *zapBridge) With(f []zapcore.Field) zapcore.Core {
	return &zapBridge{log: z.log, fields: slices.Concat(z.fields, f)}
}

// soonDone is what a new store says as an error right after it began: it notes
// the version of its file format once the membership is in that file too, and
// tries again every few seconds until then. Nothing needs that version before.
const soonDone = "failed to update storage version"

// Check implements zapcore.Core.
func (z *zapBridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) && e.Message != soonDone {
		return c.AddCore(e, z)
	}
	return c
}

// Write implements zapcore.Core.
func (z *zapBridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(z.fields, fields) {
		f.AddTo(enc)
	}
	attrs := []slog.Attr{slog.String("event", e.Message)}
	for _, k := range slices.Sorted(maps.Keys(enc.Fields)) {
		attrs = append(attrs, slog.Any(k, enc.Fields[k]))
	}
	level := slog.LevelDebug
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	z.log.LogAttrs(context.Background(), level, "etcd", attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (*zapBridge) Sync() error { return nil }
