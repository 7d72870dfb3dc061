package help_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func tail(t *testing.T, l help.Log, lines int, since time.Time) (string, help.Mark) {
	t.Helper()
	var b bytes.Buffer
	m, err := l.Tail(t.Context(), &b, lines, since)
	require.NoError(t, err)
	return b.String(), m
}

func ranged(t *testing.T, l help.Log, from string, length int) (string, help.Mark) {
	t.Helper()
	var b bytes.Buffer
	m, err := l.Range(t.Context(), &b, from, length, 0)
	require.NoError(t, err)
	return b.String(), m
}

// old makes a file look as if nobody wrote to it any more.
func old(t *testing.T, name string, ago time.Duration) {
	t.Helper()
	at := time.Now().Add(-ago)
	require.NoError(t, os.Chtimes(name, at, at))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func add(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "2026-05-01T09:%02d:%02dZ line %d\n", i/60%60, i%60, i)
	}
	return b.String()
}

func TestTheLastLinesOfALog(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.log.1"), numbered(0, 100))
	old(t, filepath.Join(dir, "x.log.1"), time.Hour)
	write(t, filepath.Join(dir, "x.log"), numbered(100, 200))
	l := help.FileLog(dir, "x.log")
	for lines, want := range map[int]string{1: numbered(199, 200), 3: numbered(197, 200), 100: numbered(100, 200), 101: numbered(99, 200), 200: numbered(0, 200), 5000: numbered(0, 200)} {
		got, m := tail(t, l, lines, time.Time{})
		assert.Equal(t, want, got, "%d lines, over the border of two files", lines)
		assert.False(t, m.More)
	}
	got, _ := tail(t, l, 5000, time.Date(2026, 5, 1, 9, 3, 10, 0, time.UTC))
	assert.Equal(t, numbered(190, 200), got, "none from before a time")
	got, _ = tail(t, l, 5000, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	assert.Empty(t, got)
}

func TestALogIsFollowedOverEveryRotation(t *testing.T) {
	rotations := map[string]func(t *testing.T, dir string, n int){
		"renamed": func(t *testing.T, dir string, _ int) {
			require.NoError(t, os.Rename(filepath.Join(dir, "x.log"), filepath.Join(dir, "x.log.1")))
			write(t, filepath.Join(dir, "x.log"), "")
		},
		"renamed, and the new one comes later": func(t *testing.T, dir string, _ int) {
			require.NoError(t, os.Rename(filepath.Join(dir, "x.log"), filepath.Join(dir, "x.log.1")))
		},
		"copied and cut": func(t *testing.T, dir string, _ int) {
			b, err := os.ReadFile(filepath.Join(dir, "x.log"))
			require.NoError(t, err)
			write(t, filepath.Join(dir, "x.log.1"), string(b))
			require.NoError(t, os.Truncate(filepath.Join(dir, "x.log"), 0))
		},
		"classic's": func(t *testing.T, dir string, n int) {
			require.NoError(t, os.Rename(filepath.Join(dir, "x.log"), filepath.Join(dir, fmt.Sprintf("x_2026_05_01_09_%d.log", n))))
			old(t, filepath.Join(dir, fmt.Sprintf("x_2026_05_01_09_%d.log", n)), time.Hour-time.Duration(n)*time.Minute)
			write(t, filepath.Join(dir, "x.log"), "")
		},
	}
	for name, rotate := range rotations {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "x.log")
			l := help.FileLog(dir, "x.log")
			add(t, file, numbered(0, 10))
			got, m := tail(t, l, 5, time.Time{})
			all, rng := got, rand.New(rand.NewPCG(1, 2))
			for i := 10; i < 200; {
				n := i + rng.IntN(7)
				add(t, file, numbered(i, n))
				i = n
				if rng.IntN(3) == 0 {
					rotate(t, dir, i)
					n = i + 1 + rng.IntN(3) // a file that stays empty and is rotated away proves nothing
					add(t, file, numbered(i, n))
					i = n
				}
				for {
					var text string
					text, m = ranged(t, l, m.Next, 1+rng.IntN(300))
					require.False(t, m.Lost, "line %d", i)
					all += text
					if !m.More {
						break
					}
				}
			}
			lines := strings.Count(all, "\n")
			assert.Equal(t, numbered(5, 5+lines), all, "each line once, in order")
			assert.GreaterOrEqual(t, lines, 190)
		})
	}
}

func TestWhatIsLostIsSaid(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.log")
	l := help.FileLog(dir, "x.log")
	write(t, file, numbered(0, 10))
	_, m := tail(t, l, 5, time.Time{})
	add(t, file, numbered(10, 20))
	for range 2 { // both files are new
		require.NoError(t, os.Rename(file, file+".1"))
		write(t, file, numbered(20, 30))
	}
	require.NoError(t, os.Remove(file+".1"))
	got, m := ranged(t, l, m.Next, 1<<20)
	assert.True(t, m.Lost)
	assert.Equal(t, numbered(20, 30), got, "it goes on with the oldest that is there")
	_, m = ranged(t, l, m.Next, 1<<20)
	assert.False(t, m.Lost, "and says so once")

	var b bytes.Buffer
	for _, bad := range []string{"x", "AAAA", strings.Repeat("A", 100), "ag"} {
		_, err := l.Range(t.Context(), &b, bad, 10, 0)
		require.ErrorIs(t, err, fault.Invalid, bad)
	}
}

func TestRangesAreWholeLinesAndWaitForTheirEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.log")
	l := help.FileLog(dir, "x.log")
	write(t, file, "one\ntwo\nthr")
	got, m := ranged(t, l, "", 1)
	assert.Equal(t, "one\n", got, "at least one line, however few bytes")
	assert.True(t, m.More)
	got, m = ranged(t, l, m.Next, 1000)
	assert.Equal(t, "two\n", got, "half a line is being written")
	add(t, file, "ee\n")
	var b bytes.Buffer
	_, err := l.Range(t.Context(), &b, m.Next, 1000, 5*time.Second)
	require.NoError(t, err)
	assert.Equal(t, "three\n", b.String())
	add(t, file, "the program died he")
	old(t, file, time.Minute)
	got, _ = tail(t, l, 1, time.Time{})
	assert.Equal(t, "the program died he\n", got, "a last line that nobody ends is shown")
}

func TestJunkAndHugeFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.log")
	junk := make([]byte, 3<<20)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(junk)
	write(t, file, string(junk)+"\n"+strings.Repeat("y ", 20<<10)+"\nend\x1b[31m\u202e\r\n")
	old(t, file, time.Minute)
	l := help.FileLog(dir, "x.log")
	var b bytes.Buffer
	m, err := l.Tail(t.Context(), &b, 10_000, time.Time{})
	require.NoError(t, err)
	assert.LessOrEqual(t, b.Len(), protocol.MaxHelpLog)
	out := b.String()
	assert.NotContains(t, out, "\x1b", "nothing that a terminal obeys")
	assert.NotContains(t, out, "\x00")
	assert.True(t, strings.HasSuffix(out, strings.Repeat("y ", 15<<9)+" [the rest of this line is left out]\nend?[31m?\n"), "a long line is cut")
	got, _ := ranged(t, l, m.Next, 1000)
	assert.Empty(t, got)

	endless := filepath.Join(dir, "z.log")
	f, err := os.Create(endless)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(10<<30)) // 10 GiB of nothing, sparse
	require.NoError(t, f.Close())
	old(t, endless, time.Minute)
	b.Reset()
	_, err = help.FileLog(dir, "z.log").Tail(t.Context(), &b, 10_000, time.Time{})
	require.NoError(t, err)
	assert.LessOrEqual(t, b.Len(), 1<<20)
	got, m = ranged(t, help.FileLog(dir, "z.log"), "", 1<<20)
	assert.True(t, m.More)
	assert.LessOrEqual(t, len(got), 1<<20)
}

func TestOnlyRegularFilesOfTheFolderAreLogs(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret.log"), "secret\n")
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret.log"), filepath.Join(dir, "link.log")))
	write(t, filepath.Join(dir, "good.log"), "good\n")
	require.NoError(t, os.Symlink("good.log", filepath.Join(dir, "inner.log")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.log"), 0o700))
	mkfifo(t, filepath.Join(dir, "pipe.log"))
	assert.Equal(t, []string{"good"}, help.LogNames(dir, 100))
	for _, name := range []string{"link.log", "inner.log", "folder.log", "pipe.log", "../" + filepath.Base(outside) + "/secret.log", "good", "", ".", ".."} {
		_, err := help.FileLog(dir, name).Tail(t.Context(), &bytes.Buffer{}, 5, time.Time{})
		require.ErrorIs(t, err, fault.NotFound, name)
	}
	_, err := help.FileLog(filepath.Join(dir, "none"), "x.log").Tail(t.Context(), &bytes.Buffer{}, 5, time.Time{})
	require.ErrorIs(t, err, fault.NotFound)
}

func TestAKeyThatBeganBeforeIsStillAKey(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.log")
	l := help.FileLog(dir, "x.log")
	write(t, file, "start\n-----BEGIN RSA PRIVATE KEY-----\nshort1\nshort2\n")
	_, m := tail(t, l, 3, time.Time{})
	add(t, file, "short3\n-----END RSA PRIVATE KEY-----\nafter\n")
	got, _ := ranged(t, l, m.Next, 1000)
	assert.Equal(t, "after\n", got)
	got, _ = tail(t, l, 4, time.Time{})
	assert.Equal(t, "after\n", got)
}

// journalctl stands for the program: it knows the flags that we use, and gives
// entries from a file.
const journalctl = `#!/bin/sh
cursor= lines=
for a in "$@"; do case "$a" in
--cursor=*) cursor="${a#--cursor=}";;
--lines=*) lines="${a#--lines=}";;
esac; done
echo "$@" >> "$0.args"
if [ -n "$lines" ]; then tail -n "$lines" "$0.entries"
elif [ -n "$cursor" ] && grep -q "\"$cursor\"" "$0.entries"; then sed -n "/\"$cursor\"/,\$p" "$0.entries"
else cat "$0.entries"; fi
`

func journal(t *testing.T) (l help.Log, program string, put func(from, to int)) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "journalctl")
	require.NoError(t, os.WriteFile(program, []byte(journalctl), 0o700))
	put = func(from, to int) {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, `{"__CURSOR":"s=1;i=%d;x","__REALTIME_TIMESTAMP":"%d","MESSAGE":"line %d","SYSLOG_IDENTIFIER":"com.example.X","_PID":"7"}`+"\n", i, 1_777_000_000_000_000+int64(i)*1000, i)
		}
		write(t, program+".entries", b.String())
	}
	return help.JournalOf(program, "--identifier=com.example.X"), program, put
}

func TestTheJournalIsReadLikeAFile(t *testing.T) {
	l, program, put := journal(t)
	put(0, 0)
	_, err := l.Tail(t.Context(), &bytes.Buffer{}, 5, time.Time{})
	require.ErrorIs(t, err, fault.NotFound)
	put(0, 10)
	got, m := tail(t, l, 2, time.Unix(5, 0))
	assert.Equal(t, "2026-04-24T03:06:40.008Z com.example.X[7]: line 8\n2026-04-24T03:06:40.009Z com.example.X[7]: line 9\n", got)
	args, err := os.ReadFile(program + ".args")
	require.NoError(t, err)
	assert.Contains(t, string(args), "--lines=2 --since=@5 --quiet --no-pager --all --output=json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID --identifier=com.example.X")
	put(0, 13)
	got, m = ranged(t, l, m.Next, 1)
	assert.Contains(t, got, "line 10")
	assert.Equal(t, 1, strings.Count(got, "\n"))
	assert.True(t, m.More)
	got, m = ranged(t, l, m.Next, 1000)
	assert.Equal(t, 2, strings.Count(got, "\n"))
	assert.False(t, m.Lost)
	got, again := ranged(t, l, m.Next, 1000)
	assert.Empty(t, got)
	assert.Equal(t, m.Next, again.Next)
	put(50, 52)
	got, m = ranged(t, l, m.Next, 1000)
	assert.True(t, m.Lost, "the entry that it stood at is gone")
	assert.Equal(t, 2, strings.Count(got, "\n"))
	_, err = l.Range(t.Context(), &bytes.Buffer{}, "Zm9v", 10, 0)
	require.ErrorIs(t, err, fault.Invalid, "a position in a file")

	write(t, program+".entries", `{"__CURSOR":"c","__REALTIME_TIMESTAMP":"0","MESSAGE":[104,105,255,10,112,119,100,61,120,120,120]}`+"\n{junk\n"+`{"__CURSOR":"d","MESSAGE":null}`+"\n")
	got, _ = tail(t, l, 9, time.Time{})
	assert.Equal(t, "1970-01-01T00:00:00.000Z : hi?\n1970-01-01T00:00:00.000Z : pwd=[removed]\n1970-01-01T00:00:00.000Z : \n", got)

	_, err = help.JournalOf("no-such-journalctl").Tail(t.Context(), &bytes.Buffer{}, 5, time.Time{})
	require.ErrorIs(t, err, fault.Unsupported)
}

func TestAKeptLogStaysSmall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	w := help.KeepLog(dir)
	line := strings.Repeat("x", 999) + "\n"
	for range 5000 {
		n, err := w.Write([]byte(line))
		require.NoError(t, err)
		require.Equal(t, len(line), n)
	}
	require.NoError(t, w.Close())
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, list, 2)
	for _, e := range list {
		info, err := e.Info()
		require.NoError(t, err)
		assert.LessOrEqual(t, info.Size(), int64(1<<20))
	}
	got, _ := tail(t, help.KeptLog(dir), 3, time.Time{})
	assert.Equal(t, 3, strings.Count(got, "\n"))

	write(t, filepath.Join(t.TempDir(), "file"), "")
	nowhere := help.KeepLog(filepath.Join(dir, "agent.log", "x"))
	_, err = nowhere.Write([]byte(line))
	require.NoError(t, err, "a log that cannot be kept stops nobody")
}
