package session_test

import (
	"fmt"
	"slices"

	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

var (
	http1Protocols = []wiretest.Protocol{wiretest.HTTP1, wiretest.HTTP1TLS}
	tlsProtocols   = []wiretest.Protocol{wiretest.HTTP1TLS, wiretest.HTTP2}
	http2Protocols = []wiretest.Protocol{wiretest.HTTP2}
	bothVersions   = []wiretest.Protocol{wiretest.HTTP1, wiretest.HTTP2} // for faults that are the same under TLS
	allProtocols   = []wiretest.Protocol{wiretest.HTTP1, wiretest.HTTP1TLS, wiretest.HTTP2}

	connectionFaults = []wiretest.Fault{wiretest.Close, wiretest.Reset, wiretest.CloseNotify, wiretest.HalfClose, wiretest.Silence}
)

func hostileRows() []hostileRow {
	return slices.Concat(
		connectingRows(), handshakeRows(), proxyRows(), requestRows(), largeRows(), answerRows(), malformedRows(),
		streamRows(), goAwayRows(), idleRows(), pageRows(), refusalRows(), repeatedRows(),
	)
}

// faultRow returns the row of a connection that fails.
func faultRow(f wiretest.Fault, s wiretest.Script) hostileRow {
	s.Fault = f
	row := hostileRow{
		name:      fmt.Sprintf("the server %v %v", f, s.At),
		protocols: bothVersions,
		scripts:   []wiretest.Script{s},
		short:     f == wiretest.Silence || f == wiretest.IgnoreStream,
		recovers:  true,
		dead:      f == wiretest.Silence && s.At > wiretest.AfterInformational,
	}
	switch f {
	case wiretest.Close:
		row.protocols = allProtocols
	case wiretest.CloseNotify:
		row.protocols = tlsProtocols
	}
	return row
}

// named returns the row with more of a name.
func (row hostileRow) named(format string, args ...any) hostileRow {
	row.name += fmt.Sprintf(format, args...)
	return row
}

// over returns the row over other protocols.
func (row hostileRow) over(protocols []wiretest.Protocol) hostileRow {
	row.protocols = protocols
	return row
}

// connectingRows fail before there is a request.
func connectingRows() []hostileRow {
	rows := []hostileRow{{name: "the server refuses the connection", protocols: allProtocols, refused: true, certain: true, recovers: true}}
	for _, f := range connectionFaults {
		if f != wiretest.CloseNotify {
			// Without TLS the client sends the request all the same.
			rows = append(rows, faultRow(f, wiretest.Script{At: wiretest.OnAccept}).over([]wiretest.Protocol{wiretest.HTTP1}).named(", without TLS"))
		}
	}
	return rows
}

// handshakeRows fail in the TLS handshake.
func handshakeRows() []hostileRow {
	var rows []hostileRow
	handshake := func(f wiretest.Fault, at wiretest.Point) {
		row := faultRow(f, wiretest.Script{At: at}).over(http2Protocols)
		row.certain = true
		rows = append(rows, row)
	}
	for _, at := range []wiretest.Point{wiretest.OnAccept, wiretest.AfterClientHello, wiretest.InServerHello} {
		for _, f := range []wiretest.Fault{wiretest.Close, wiretest.Reset, wiretest.HalfClose, wiretest.Silence, wiretest.Garbage} {
			handshake(f, at)
		}
	}
	handshake(wiretest.Alert, wiretest.AfterClientHello)
	handshake(wiretest.WrongCertificate, wiretest.OnAccept)
	return rows
}

// proxyRows fail in a proxy's CONNECT.
func proxyRows() []hostileRow {
	var rows []hostileRow
	proxy := func(name string, s wiretest.Script) {
		rows = append(rows, hostileRow{
			name: name, protocols: []wiretest.Protocol{wiretest.HTTP1TLS}, proxy: []wiretest.Script{s},
			short: s.Fault == wiretest.Silence, certain: true, recovers: true,
		})
	}
	for _, status := range []int{301, 403, 404, 407, 429, 502, 503} {
		proxy(fmt.Sprintf("the proxy answers CONNECT with %d", status),
			wiretest.Script{Answer: wiretest.Page(status, "text/html", "<html>no</html>"), At: wiretest.AfterAnswer, Fault: wiretest.HalfClose})
	}
	for _, f := range connectionFaults {
		if f == wiretest.CloseNotify {
			continue
		}
		for _, at := range []wiretest.Point{wiretest.OnAccept, wiretest.BeforeRequest, wiretest.AfterRequestHeaders, wiretest.InStatusLine, wiretest.InHeaders, wiretest.AfterAnswer} {
			proxy(fmt.Sprintf("the proxy %v %v of CONNECT", f, at), wiretest.Script{Answer: &wiretest.Answer{Length: -1}, At: at, Fault: f})
		}
	}
	proxy("the proxy answers CONNECT with garbage",
		wiretest.Script{Answer: &wiretest.Answer{Raw: "SSH-2.0-OpenSSH_9.9\r\n\r\n"}, At: wiretest.AfterAnswer, Fault: wiretest.HalfClose})
	return rows
}

// requestRows fail while the server reads the request, and before it answers.
func requestRows() []hostileRow {
	var rows []hostileRow
	for at := wiretest.BeforeRequest; at <= wiretest.AfterRequest; at++ {
		if at == wiretest.AtRequestByte {
			continue // TestHostileCutsAtEveryByte has all of them
		}
		for _, f := range connectionFaults {
			rows = append(rows, faultRow(f, wiretest.Script{At: at, NotExecuted: true}))
		}
	}
	for _, f := range append(connectionFaults, wiretest.Garbage) {
		rows = append(rows, faultRow(f, wiretest.Script{At: wiretest.AfterRequest}).named(", and has executed the call"))
	}
	return append(rows,
		faultRow(wiretest.IgnoreStream, wiretest.Script{At: wiretest.AfterRequest, NotExecuted: true}).over(http2Protocols),
		faultRow(wiretest.IgnoreStream, wiretest.Script{At: wiretest.AfterRequest}).over(http2Protocols).named(", and has executed the call"))
}

// largeRows fail before the client can have written the last byte: the body is
// larger than the socket buffers, or than the window of HTTP/2.
func largeRows() []hostileRow {
	var rows []hostileRow
	for _, f := range []wiretest.Fault{wiretest.Close, wiretest.Reset, wiretest.Silence} {
		row := faultRow(f, wiretest.Script{At: wiretest.AfterRequestHeaders, NotExecuted: true}).over(http1Protocols).named(" of an upload of 6 MiB")
		row.methods, row.certain = []hostileMethod{{names: []string{"sendDocument"}, upload: 6 << 20}}, true
		rows = append(rows, row)
		row = faultRow(f, wiretest.Script{At: wiretest.InRequestBody, NotExecuted: true}).over(http2Protocols).named(" of an upload of 128 KiB")
		row.methods, row.certain = []hostileMethod{{names: []string{"sendDocument"}, upload: 128 << 10}}, true
		row.dead = f == wiretest.Silence // an upload has no bound for the first byte
		rows = append(rows, row)
	}
	for name, a := range map[string]*wiretest.Answer{
		"a page with status 413": wiretest.Page(413, "text/html", "<html>too large</html>"),
		"a refusal with 413":     wiretest.Refusal(413, "Request Entity Too Large", ""),
	} {
		row := faultRow(wiretest.Close, wiretest.Script{Answer: a, Early: true, At: wiretest.AfterAnswer, NotExecuted: true}).
			named(", %s that comes before the upload of 6 MiB was read", name)
		row.methods, row.anyKind, row.recovers = []hostileMethod{{names: []string{"sendDocument"}, upload: 6 << 20}}, true, false
		rows = append(rows, row)
	}
	return rows
}

// answerRows fail in the answer. The call was executed.
func answerRows() []hostileRow {
	var rows []hostileRow
	chunked := wiretest.JSON(200, wiretest.Good)
	chunked.Chunked = true
	untilClose := wiretest.JSON(200, wiretest.Good)
	untilClose.Length = -1
	for _, f := range connectionFaults {
		for _, at := range []wiretest.Point{
			wiretest.InStatusLine, wiretest.AfterStatusLine, wiretest.InHeaders, wiretest.AfterHeaders,
			wiretest.InBody, wiretest.BeforeLastByte, wiretest.AfterAnswer,
		} {
			row := faultRow(f, wiretest.Script{At: at})
			// A reset may overtake the answer, and so may a close where the server
			// has not read everything.
			row.succeeds = at == wiretest.AfterAnswer && f != wiretest.Reset && f != wiretest.Close
			row.short = row.short && !row.succeeds
			rows = append(rows, row)
		}
		for _, at := range []wiretest.Point{wiretest.InBody, wiretest.BeforeLastChunk, wiretest.BeforeLastByte} {
			rows = append(rows, faultRow(f, wiretest.Script{At: at, Answer: chunked}).over(http1Protocols).named(" in chunks"))
		}
		rows = append(rows, faultRow(f, wiretest.Script{At: wiretest.InBody, Answer: untilClose}).named(" without a length"))
		informed := wiretest.JSON(200, wiretest.Good)
		informed.Informational = 103
		rows = append(rows, faultRow(f, wiretest.Script{At: wiretest.AfterInformational, Answer: informed}))
		rows = append(rows, faultRow(f, wiretest.Script{At: wiretest.AfterAnswer, Answer: wiretest.Page(101, "", "")}).named(", which is a 101"))
	}
	for at := wiretest.AfterHeaders; at <= wiretest.InBody; at++ {
		rows = append(rows, faultRow(wiretest.IgnoreStream, wiretest.Script{At: at}).over(http2Protocols))
		rows = append(rows, faultRow(wiretest.Garbage, wiretest.Script{At: at}))
	}
	return rows
}

// idleRows end an idle connection at the moment of a send.
func idleRows() []hostileRow {
	var rows []hostileRow
	for _, f := range connectionFaults {
		row := faultRow(f, wiretest.Script{At: wiretest.BeforeRequest, NotExecuted: true}).named(", on a kept connection")
		row.first = &wiretest.Script{}
		rows = append(rows, row)
		row = faultRow(f, wiretest.Script{At: wiretest.AfterRequest}).named(", on a kept connection, and has executed the call")
		row.first = &wiretest.Script{}
		rows = append(rows, row)
		if f == wiretest.Silence {
			continue // the rows above
		}
		row = hostileRow{
			name:      fmt.Sprintf("the server %v just before the send", f),
			protocols: faultRow(f, wiretest.Script{}).protocols, first: &wiretest.Script{}, idle: f, recovers: true,
		}
		rows = append(rows, row)
		row = row.named(", and executes the call if it still arrives")
		row.idleExecutes = true
		rows = append(rows, row)
	}
	for _, code := range []uint32{wiretest.NoError, wiretest.EnhanceYourCalm} {
		for _, f := range []wiretest.Fault{wiretest.GoAwayExcluding(code), wiretest.GoAwayExcludingThenClose(code)} {
			rows = append(rows, hostileRow{
				name:      fmt.Sprintf("the server %v just before the send", f),
				protocols: http2Protocols, first: &wiretest.Script{}, idle: f, certain: true, recovers: true,
			})
		}
	}
	once := goodHTTP1()
	rows = append(rows, hostileRow{
		name: "the server answers the previous call twice", protocols: http1Protocols,
		first: &wiretest.Script{Answer: &wiretest.Answer{Raw: once + once}}, recovers: true,
	})
	return rows
}
