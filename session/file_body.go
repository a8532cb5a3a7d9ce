package session

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// fileBody is the body of one upload attempt. It stops reading the caller's files
// when the attempt ends, because the next attempt reads them again.
type fileBody struct {
	reader  *partReader
	reading chan struct{} // a lock, held while a reader of the caller is called
	over    atomic.Bool
	fail    atomic.Pointer[error] // the error of a file's own reader
}

func newFileBody(reader *partReader) *fileBody {
	return &fileBody{reader: reader, reading: make(chan struct{}, 1)}
}

var (
	// errAttemptOver is what a transport gets that reads on after its attempt.
	errAttemptOver = errors.New("the attempt is over")
	errReaderPanic = errors.New("panic in the reader of an upload")
)

// read calls last before it hands out the body's last byte.
func (b *fileBody) read(p []byte, last func() bool) (n int, err error) {
	b.reading <- struct{}{}
	defer func() { <-b.reading }()
	if b.over.Load() {
		return 0, errAttemptOver
	}
	// The transport reads on a goroutine of its own, where a panic would end
	// the process.
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, errReaderPanic
			b.fail.Store(&errReaderPanic)
		}
	}()
	n, err = b.reader.Read(p)
	if b.reader.done() && !last() {
		return 0, errAttemptOver
	}
	if err != nil && err != io.EOF {
		failure := err
		b.fail.Store(&failure)
	}
	return n, err
}

// failure returns the error of a file's reader, or nil.
func (b *fileBody) failure() error {
	if err := b.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// letGoTime bounds the wait for a read of a file that is under way.
const letGoTime = 250 * time.Millisecond

// letGo stops reading and reports whether it did. With wait it gives a running
// read a moment. A reader that can't seek may be stuck, and is not used again anyway.
func (b *fileBody) letGo(wait bool) bool {
	b.over.Store(true)
	select {
	case b.reading <- struct{}{}:
	default:
		if !wait {
			return true
		}
		timer := time.NewTimer(letGoTime)
		defer timer.Stop()
		select {
		case b.reading <- struct{}{}:
		case <-timer.C:
			return false
		}
	}
	<-b.reading
	return true
}
