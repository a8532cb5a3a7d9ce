package session_test

import (
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

// cutRow returns the row of a connection that fails at a byte. Neither the kind
// of the error nor a recovery is demanded.
func cutRow(f wiretest.Fault, s wiretest.Script) hostileRow {
	row := faultRow(f, s)
	row.anyKind, row.recovers = true, false
	return row
}

// The server fails at each byte of an answer and of a request, with the guard
// and without.
func TestHostileCutsAtEveryByte(t *testing.T) {
	chunked := wiretest.JSON(200, wiretest.Good)
	chunked.Chunked = true
	plain := wiretest.JSON(200, wiretest.Good)
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	for _, row := range []struct {
		name     string
		protocol wiretest.Protocol
		at       wiretest.Point
		answer   *wiretest.Answer
		size     int // for a request: more than its length
	}{
		{"an answer with a length", wiretest.HTTP1, wiretest.AtAnswerByte, plain, plain.Size(wiretest.HTTP1)},
		{"a chunked answer", wiretest.HTTP1, wiretest.AtAnswerByte, chunked, chunked.Size(wiretest.HTTP1)},
		{"a request", wiretest.HTTP1, wiretest.AtRequestByte, plain, 300},
		{"an answer of HTTP2", wiretest.HTTP2, wiretest.AtAnswerByte, plain, plain.Size(wiretest.HTTP2)},
		{"a request of HTTP2", wiretest.HTTP2, wiretest.AtRequestByte, plain, 250},
	} {
		t.Run(row.name, func(t *testing.T) {
			step := 1
			if testing.Short() {
				step = 7
			}
			var mu sync.Mutex
			failed := make(map[string][]int)
			var all sync.WaitGroup
			for offset := 0; offset <= row.size; offset += step {
				hostileSlots <- struct{}{}
				all.Go(func() {
					defer func() { <-hostileSlots }()
					for _, f := range []wiretest.Fault{wiretest.Close, wiretest.Reset} {
						for _, guard := range []bool{false, true} {
							c := &hostileCall{
								row:      cutRow(f, wiretest.Script{At: row.at, Offset: offset, Answer: row.answer}),
								protocol: row.protocol, method: hostileMethods[0], guard: guard,
							}
							o := c.run(0)
							failures := o.failures(c)
							if row.at == wiretest.AtAnswerByte {
								if o.executed == 0 {
									failures = append(failures, "not executed")
								}
								if o.err == nil && offset < row.size {
									failures = append(failures, "success with a part of an answer")
								}
							}
							mu.Lock()
							for _, failure := range failures {
								key := fmt.Sprintf("%s, when the server %v, %s", failure, f, c)
								failed[key] = append(failed[key], offset)
							}
							mu.Unlock()
						}
					}
				})
			}
			all.Wait()
			for failure, at := range failed {
				slices.Sort(at)
				t.Errorf("%s: at %d bytes: %v", failure, len(at), at)
			}
		})
	}
}

// FuzzCutPoint draws the protocol, the byte and the fault. A call is executed at
// most once, an executed call is not reported as not delivered, and a successful
// call was executed.
func FuzzCutPoint(f *testing.F) {
	log.SetOutput(io.Discard)
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	for protocol := range uint8(3) {
		for offset := range uint16(8) {
			for _, inAnswer := range []bool{false, true} {
				f.Add(protocol, uint8(offset), uint8(offset), offset*31, inAnswer, offset%2 == 0, offset%3 == 0)
			}
		}
	}
	f.Fuzz(func(t *testing.T, protocol, method, fault uint8, offset uint16, inAnswer, executes, guard bool) {
		c := &hostileCall{
			protocol: allProtocols[int(protocol)%len(allProtocols)],
			method:   hostileMethods[int(method)%len(hostileMethods)],
			guard:    guard,
		}
		faults := append(slices.Clone(connectionFaults), wiretest.Garbage)
		if c.protocol == wiretest.HTTP2 {
			faults = append(faults, streamFaults(executes || inAnswer)...)
		}
		script := wiretest.Script{At: wiretest.AtRequestByte, Offset: int(offset) % 400, NotExecuted: !executes}
		if inAnswer {
			script.At, script.NotExecuted = wiretest.AtAnswerByte, false
		}
		if method%2 == 1 {
			script.Answer = wiretest.JSON(200, wiretest.Good)
			script.Answer.Chunked = true
		}
		c.row = cutRow(faults[int(fault)%len(faults)], script)
		// The client may wait for the rest of a frame.
		c.row.short = c.row.short || c.protocol == wiretest.HTTP2
		o := c.run(int(offset))
		assert.Empty(t, o.failures(c), "%v at %d, %s, %v", c.row.scripts[0].Fault, script.Offset, c, &o)
	})
}

// streamFaults returns the faults of HTTP/2 that do not wrongly promise that the
// call was not executed.
func streamFaults(executes bool) []wiretest.Fault {
	faults := wiretest.BadFrames()
	for code := range uint32(wiretest.HTTP11Required + 1) {
		if code != wiretest.RefusedStream || !executes {
			faults = append(faults, wiretest.ResetStream(code))
		}
		faults = append(faults, wiretest.GoAwayThenClose(code))
		if !executes {
			faults = append(faults, wiretest.GoAwayExcluding(code))
		}
	}
	return faults
}
