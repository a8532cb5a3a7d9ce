package wiretest

import "math"

// Script says how a server treats one request. The zero Script executes the
// call and answers it well.
type Script struct {
	// At is the point at which the server fails. 0 means that it does not fail.
	At Point
	// Offset is the byte for AtRequestByte and AtAnswerByte.
	Offset int
	// Fault is how the server fails.
	Fault Fault
	// NotExecuted prevents the execution of the call.
	NotExecuted bool
	// Answer is the answer. Nil means a good one.
	Answer *Answer
	// Early sends the answer before the request's body is read.
	Early bool
	// Forever keeps the script for all later requests.
	Forever bool
}

// Point is a point in the course of a call.
type Point uint8

// The points, in the order in which a call passes them.
const (
	// OnAccept precedes the TLS handshake.
	OnAccept Point = iota + 1
	// AfterClientHello is in the TLS handshake, before the server's first byte.
	AfterClientHello
	// InServerHello is in the server's first message of the TLS handshake.
	InServerHello
	// BeforeRequest is when the request has arrived and no byte was read of it.
	BeforeRequest
	// InRequestHeaders to BeforeLastRequestByte count the bytes that the server
	// has read. The client may have sent more.
	InRequestHeaders
	AfterRequestHeaders
	InRequestBody
	BeforeLastRequestByte
	// AtRequestByte is after Script.Offset bytes of the request, or
	// AfterRequest if the request is shorter. With HTTP/2 the bytes are those
	// of the stream's frames.
	AtRequestByte
	// AfterRequest is after the execution and before the answer.
	AfterRequest

	// AfterInformational is after the answer with status 1xx.
	AfterInformational
	// InStatusLine and AfterStatusLine mean the nine bytes before the payload
	// of the HEADERS frame with HTTP/2.
	InStatusLine
	AfterStatusLine
	InHeaders
	AfterHeaders
	// InBody is between two DATA frames with HTTP/2.
	InBody
	// BeforeLastChunk is before the chunk that ends a chunked answer.
	BeforeLastChunk
	BeforeLastByte
	// AtAnswerByte is after Script.Offset bytes of the answer, or AfterAnswer if
	// the answer is shorter.
	AtAnswerByte
	AfterAnswer
)

var points = [...]string{
	0:                     "nowhere",
	OnAccept:              "on accept",
	AfterClientHello:      "after the ClientHello",
	InServerHello:         "inside the ServerHello",
	BeforeRequest:         "before it reads the request",
	InRequestHeaders:      "inside the request's headers",
	AfterRequestHeaders:   "after the request's headers",
	InRequestBody:         "in the request's body",
	BeforeLastRequestByte: "one byte before the end of the request",
	AtRequestByte:         "at a byte of the request",
	AfterRequest:          "after the last byte of the request",
	AfterInformational:    "after a 1xx answer",
	InStatusLine:          "inside the status line",
	AfterStatusLine:       "after the status line",
	InHeaders:             "inside the answer's headers",
	AfterHeaders:          "after the answer's headers",
	InBody:                "in the answer's body",
	BeforeLastChunk:       "before the answer's last chunk",
	BeforeLastByte:        "one byte before the end of the answer",
	AtAnswerByte:          "at a byte of the answer",
	AfterAnswer:           "after the answer",
}

// String returns the point as a phrase, such as "inside the status line".
func (p Point) String() string { return points[p] }

// ofConnection reports whether the point precedes all requests of a
// connection.
func (p Point) ofConnection() bool { return p >= OnAccept && p <= InServerHello }

// ofAnswer reports whether the point is in the answer.
func (p Point) ofAnswer() bool { return p >= AfterInformational }

// bodyLimit returns how many of n bytes of a request's body the server reads
// before it fails; n means that it fails later or not at all. before is the
// number of bytes that precede these, and last whether they end the request.
func (s Script) bodyLimit(before, n int, last bool) int {
	switch {
	case s.At == InRequestBody:
		return n / 2
	case s.At == BeforeLastRequestByte && last:
		return max(n-1, 0)
	case s.At == AtRequestByte:
		return min(max(s.Offset-before, 0), n)
	}
	return n
}

// headLimit returns how many bytes of a request's headers the server reads with
// HTTP/1.1 before it fails.
func (s Script) headLimit() int {
	switch s.At {
	case InRequestHeaders:
		return 20 // within the request line, which holds the token
	case AtRequestByte:
		return s.Offset
	}
	return math.MaxInt
}
