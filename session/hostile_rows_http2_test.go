package session_test

import (
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

// streamRows end a stream of HTTP/2, or break its rules.
func streamRows() []hostileRow {
	var rows []hostileRow
	for code := range uint32(wiretest.HTTP11Required + 1) {
		f := wiretest.ResetStream(code)
		for _, at := range []wiretest.Point{wiretest.AfterRequest, wiretest.AfterHeaders, wiretest.InBody} {
			if at == wiretest.AfterRequest && code == wiretest.RefusedStream {
				continue // it promises that the call was not executed
			}
			rows = append(rows, faultRow(f, wiretest.Script{At: at}).over(http2Protocols).named(", and has executed the call"))
		}
	}
	for _, code := range []uint32{wiretest.NoError, wiretest.ProtocolError, wiretest.RefusedStream, wiretest.Cancel, wiretest.EnhanceYourCalm} {
		for _, at := range []wiretest.Point{wiretest.AfterRequestHeaders, wiretest.InRequestBody, wiretest.AfterRequest} {
			row := faultRow(wiretest.ResetStream(code), wiretest.Script{At: at, NotExecuted: true}).over(http2Protocols)
			row.certain = code == wiretest.RefusedStream
			rows = append(rows, row)
			if at == wiretest.AfterRequest {
				row = row.named(", on a later stream")
				row.first = &wiretest.Script{}
				rows = append(rows, row)
			}
		}
	}
	rows = append(rows, hostileRow{
		name: "the server resets every stream with PROTOCOL_ERROR after the execution", protocols: http2Protocols, short: true,
		scripts: []wiretest.Script{{At: wiretest.AfterRequest, Fault: wiretest.ResetStream(wiretest.ProtocolError), Forever: true}},
	}, hostileRow{
		name: "the server refuses every stream", protocols: http2Protocols, short: true, certain: true,
		scripts: []wiretest.Script{{At: wiretest.AfterRequest, Fault: wiretest.ResetStream(wiretest.RefusedStream), NotExecuted: true, Forever: true}},
	})
	for _, f := range wiretest.BadFrames() {
		for _, at := range []wiretest.Point{wiretest.AfterRequest, wiretest.InBody} {
			rows = append(rows, faultRow(f, wiretest.Script{At: at}).over(http2Protocols).named(", and has executed the call"))
		}
	}
	rows = append(rows, hostileRow{
		name: "the server refuses a call before its body was read, and resets the stream with NO_ERROR", protocols: http2Protocols,
		scripts: []wiretest.Script{{
			Answer: wiretest.Refusal(400, "Bad Request: chat not found", ""), Early: true, NotExecuted: true,
			At: wiretest.AfterAnswer, Fault: wiretest.ResetStream(wiretest.NoError),
		}},
		kind: errors.ChatNotFound, partly: true, certain: true,
	})
	return rows
}

// goAwayRows end a connection of HTTP/2 with a GOAWAY.
func goAwayRows() []hostileRow {
	var rows []hostileRow
	for _, first := range []*wiretest.Script{nil, {}} {
		stream := ", on the first stream"
		if first != nil {
			stream = ", on a later stream"
		}
		add := func(f wiretest.Fault, s wiretest.Script, certain bool) {
			row := faultRow(f, s).over(http2Protocols).named("%s", stream)
			row.first, row.certain = first, certain
			rows = append(rows, row)
		}
		for _, code := range []uint32{wiretest.NoError, wiretest.ProtocolError, wiretest.EnhanceYourCalm} {
			for _, f := range []wiretest.Fault{wiretest.GoAwayExcluding(code), wiretest.GoAwayExcludingThenClose(code)} {
				add(f, wiretest.Script{At: wiretest.AfterRequestHeaders, NotExecuted: true}, true)
				add(f, wiretest.Script{At: wiretest.AfterRequest, NotExecuted: true}, true)
			}
			for _, at := range []wiretest.Point{wiretest.AfterRequest, wiretest.AfterHeaders, wiretest.InBody} {
				add(wiretest.GoAwayThenClose(code), wiretest.Script{At: at}, false)
			}
		}
		add(wiretest.GoAwayThenAnswer(), wiretest.Script{At: wiretest.AfterRequest}, false)
		rows[len(rows)-1].succeeds = true
	}
	return rows
}
