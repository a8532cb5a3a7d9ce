// Package wiretest provides Bot API servers that fail at a chosen point of a
// call.
//
//	s, err := wiretest.Start(wiretest.HTTP2, wiretest.Script{
//		At: wiretest.InBody, Fault: wiretest.Reset,
//	})
//	defer s.Close()
//	// Call s.URL() with a body that contains wiretest.ID(1).
//	n := s.Executed(wiretest.ID(1))
//
// The servers listen on loopback sockets and write every byte themselves. They
// speak HTTP/1.1, HTTP/1.1 over TLS and HTTP/2. A server executes a call after it
// has read the whole request: it counts the id in the request's body. Each
// [Script] decides about one request. A server without a script left
// executes every call and answers it well, so a wrong repetition shows as a call
// that was executed twice.
package wiretest
