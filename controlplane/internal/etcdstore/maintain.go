package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	// keepRevisions is how much history stays for watches that fall behind.
	keepRevisions = 10_000
	// compactAfter is how much may come on top of it between two looks: what was
	// deleted costs every listing of its prefix time until history is dropped, and
	// etcd by itself does that every five minutes only.
	compactAfter = 20_000
	// maintenanceInterval: at the 20 MB/s that one disk of ours takes, the
	// file grows by about 1 GB between two looks.
	maintenanceInterval = time.Minute
	// defragAt is how much of the file must be unused before it is rewritten:
	// that stops the store for about a second per 500 MB.
	defragAt = 64 << 20
)

// Run keeps the database file small until ctx is done: it drops history early
// when the file grows, gives unused space back, and lifts the write stop of a
// full store once there is room.
func (e *Embedded) Run(ctx context.Context) error {
	return run.Every(ctx, maintenanceInterval, e.Maintain, func(err error) {
		e.log.WarnContext(ctx, "store maintenance failed", slog.Any(logx.Err, err))
	})
}

// Maintain does one round of Run.
func (e *Embedded) Maintain(ctx context.Context) error {
	st, err := e.client.Status(ctx, "")
	if err != nil {
		return fmt.Errorf("read status: %w", classify(ctx, err))
	}
	full, err := e.full(ctx)
	if err != nil {
		return err
	}
	if st.DbSize > e.quota/2 || full || st.Header.Revision-e.compacted > keepRevisions+compactAfter {
		keep := int64(keepRevisions)
		if full {
			keep = 0
		}
		if err := e.compact(ctx, st.Header.Revision-keep); err != nil {
			return err
		}
		if st, err = e.client.Status(ctx, ""); err != nil {
			return fmt.Errorf("read status: %w", classify(ctx, err))
		}
	}
	if unused := st.DbSize - st.DbSizeInUse; full || unused > defragAt && unused > st.DbSize/2 {
		// Not through the client: in process its Defragment is a nil dereference.
		if err := e.etcd.Server.Backend().Defrag(); err != nil {
			return fmt.Errorf("defragment: %w", err)
		}
	}
	if full {
		return e.reopen(ctx)
	}
	return nil
}

// full reports whether etcd stopped taking writes for lack of space.
func (e *Embedded) full(ctx context.Context) (bool, error) {
	alarms, err := e.client.AlarmList(ctx)
	if err != nil {
		return false, fmt.Errorf("list alarms: %w", classify(ctx, err))
	}
	for _, a := range alarms.Alarms {
		if a.GetAlarm() == etcdserverpb.AlarmType_NOSPACE {
			return true, nil
		}
	}
	return false, nil
}

func (e *Embedded) compact(ctx context.Context, rev int64) error {
	if rev <= 0 {
		return nil
	}
	_, err := e.client.Compact(ctx, rev, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("drop history: %w", classify(ctx, err))
	}
	e.compacted = rev
	return nil
}

// reopen lets a store that was full take writes again if a tenth of it is free.
func (e *Embedded) reopen(ctx context.Context) error {
	st, err := e.client.Status(ctx, "")
	if err != nil {
		return fmt.Errorf("read status: %w", classify(ctx, err))
	}
	sizes := []any{slog.Int64("used_bytes", st.DbSizeInUse), slog.Int64("quota_bytes", e.quota)}
	if st.DbSizeInUse > e.quota/10*9 {
		e.log.ErrorContext(ctx, "store of record is full", sizes...)
		return nil
	}
	if _, err := e.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return fmt.Errorf("lift the write stop: %w", classify(ctx, err))
	}
	e.log.WarnContext(ctx, "store of record was full and has room again", sizes...)
	return nil
}
