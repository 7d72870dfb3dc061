package event

import (
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Keys. Only the outbox, the log and the webhooks are watched.
const (
	prefix        = state.Root + "event/"
	outboxPrefix  = prefix + "outbox/"  // <order in its batch>-<id>: Event, until it has its place
	logPrefix     = prefix + "log/"     // <sequence>: Event
	headKey       = prefix + "head"     // head
	leaderKey     = prefix + "leader"   // who numbers and delivers
	historyPrefix = prefix + "history/" // <core>: history
	gonePrefix    = prefix + "gone/"    // <core>: when it was deleted; its history is kept for a while
	webhookPrefix = prefix + "webhook/" // <id>: webhookRecord
	cursorPrefix  = prefix + "cursor/"  // <subscriber>: cursor
	deadPrefix    = prefix + "dead/"    // <subscriber>/<sequence>: DeadLetter
)

func logKey(sequence int64) string       { return fmt.Sprintf("%s%019d", logPrefix, sequence) }
func historyKey(core string) string      { return historyPrefix + core }
func goneKey(core string) string         { return gonePrefix + core }
func webhookKey(id string) string        { return webhookPrefix + id }
func cursorKey(subscriber string) string { return cursorPrefix + subscriber }
func deadRoot(subscriber string) string  { return deadPrefix + subscriber + "/" }

func deadKey(subscriber string, sequence int64) string {
	return fmt.Sprintf("%s%019d", deadRoot(subscriber), sequence)
}
