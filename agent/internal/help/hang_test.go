package help_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// A mount that does not answer holds a system call for ever, whatever its context.
func TestADiagnosisThatHangsIsLeftAndNotBegunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan struct{})
		begun := 0
		h, err := help.NewHost(help.HostConfig{
			Root: t.TempDir(), Nucleus: func() help.Nucleus { return help.Nucleus{} },
			Doctor: func(_ context.Context, w io.Writer) error {
				begun++
				_, _ = io.WriteString(w, "the first line\n")
				<-answers
				_, err := io.WriteString(w, "too late\n")
				return err
			},
		})
		require.NoError(t, err)
		h.SetPatience(time.Minute)
		var out bytes.Buffer
		began := time.Now()
		require.NoError(t, h.Diagnose(t.Context(), "doctor", &out), "a part is better than none")
		assert.Contains(t, out.String(), "the first line")
		assert.Contains(t, out.String(), "this is not all: the diagnosis doctor does not end")
		assert.Less(t, time.Since(began), 2*time.Minute)

		for range 3 {
			err = h.Diagnose(t.Context(), "doctor", &out)
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, err, "has not ended yet")
		}
		assert.Equal(t, 1, begun)
		require.NoError(t, h.Diagnose(t.Context(), "clock", io.Discard), "others go on")

		close(answers)
		synctest.Wait()
		assert.NotContains(t, out.String(), "too late")
		require.NoError(t, h.Diagnose(t.Context(), "doctor", &out), "when the mount answers, so does the diagnosis")
		assert.Contains(t, out.String(), "too late")
		assert.Equal(t, 2, begun)
	})
}
