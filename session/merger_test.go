package session

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mergedPipe returns both ends of a connection over loopback whose near end
// merges its writes.
func mergedPipe(t *testing.T) (near *conn, far net.Conn, table *connTable) {
	l := listen(t)
	table = newConnTable(10)
	require.NoError(t, table.acquire(t.Context(), func() {}))
	dialed, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	table.dials.Done()
	far, err = l.Accept()
	require.NoError(t, err)
	tracked, err := table.add(dialed, "far")
	require.NoError(t, err)
	near = tracked.(*conn)
	near.secured("h2")
	t.Cleanup(func() { far.Close(); table.close() })
	return near, far, table
}

func TestMergedWritesArriveWholeAndInOrder(t *testing.T) {
	near, far, _ := mergedPipe(t)
	var want bytes.Buffer
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 5000 {
			p := bytes.Repeat([]byte{byte(i)}, i%700)
			want.Write(p)
			n, err := near.Write(p)
			assert.NoError(t, err)
			assert.Equal(t, len(p), n)
		}
		assert.NoError(t, near.Close(), "writes what is left first")
	})
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	writer.Wait()
	assert.True(t, bytes.Equal(want.Bytes(), got), "%d bytes of %d", len(got), want.Len())
	assert.Equal(t, int64(want.Len()), near.written.Load())
}

func TestMergedWritesAreBounded(t *testing.T) {
	near, far, _ := mergedPipe(t)
	done := make(chan error, 1)
	go func() {
		p := make([]byte, 16<<10)
		for {
			if _, err := near.Write(p); err != nil {
				done <- err
				return
			}
		}
	}()
	m := near.merge.Load()
	full := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		require.LessOrEqual(t, len(m.buf), maxMerged)
		return len(m.buf) == maxMerged
	}
	require.Eventually(t, full, time.Minute, time.Millisecond, "nobody reads")
	near.Close()
	assert.Error(t, <-done, "closing ends the wait")
	far.Close()
}

func TestAMergedWriteFailsWhenTheConnectionHas(t *testing.T) {
	near, far, _ := mergedPipe(t)
	require.NoError(t, far.(*net.TCPConn).SetLinger(0))
	far.Close()
	require.Eventually(t, func() bool {
		_, err := near.Write([]byte("x"))
		return err != nil
	}, time.Minute, time.Millisecond)
	_, err := near.Read(make([]byte, 1))
	assert.Error(t, err, "its reader learns of it")
	_, err = near.Write([]byte("x"))
	assert.Error(t, err)
	assert.NotPanics(t, func() { near.Close(); near.Close() })
	_, err = near.Write([]byte("x"))
	assert.Error(t, err)
}

// When TLS closes, it sets an expired write deadline. Buffered bytes must still go
// out.
func TestAWriteDeadlineDoesNotCutMergedWrites(t *testing.T) {
	near, far, _ := mergedPipe(t)
	payload := make([]byte, 200<<10)
	_, err := near.Write(payload)
	require.NoError(t, err)
	require.NoError(t, near.SetWriteDeadline(time.Now()))
	go near.Close()
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	assert.Len(t, got, len(payload))
}
