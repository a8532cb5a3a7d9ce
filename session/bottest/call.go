package bottest

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// A Call is one request as the server saw it.
type Call struct {
	// Time is when it arrived.
	Time time.Time
	// Duration is how long it took until it was answered.
	Duration time.Duration
	// Bot is whose token it carried, nil if nobody's.
	Bot *Bot
	// Method is the method's name in its usual spelling, as it was written if
	// there is no such method, and "download" for the download of a file.
	Method string
	// Test says that it went to the test environment, /bot<token>/test/.
	Test bool
	// Params are the parameters but for the files, as the text they were sent
	// as; objects and arrays are JSON.
	Params map[string]string
	// Files are the files it uploaded.
	Files []Upload
	// ContentType is the request's, without parameters such as a boundary.
	ContentType string
	// Status is the answer's HTTP status, 0 if there was none: the client
	// gave up or the connection was reset.
	Status int
	// ErrorCode is the answer's error_code, 0 if it was ok.
	ErrorCode int
	// Description is the answer's description of the error.
	Description string
	// Executed says that the method has run, whatever the client was told. A
	// method that finds fault with its parameters has run too.
	Executed bool
	// Fault names the [Action] that was done to the call, "" for none.
	Fault string
	// Conn is the number of the connection it came over, counted from 1. It
	// is 0 through [Server.Handler] and for a call in a webhook's answer.
	Conn int
	// Remote is the address it came from, "webhook" for a call in a webhook's
	// answer.
	Remote string
}

// An Upload is a file as a call carried it.
type Upload struct {
	// Field is the name of the form's field.
	Field string
	// Name is the file's name.
	Name string
	// ContentType is what the client said of it.
	ContentType string
	// Size is in bytes.
	Size int64
	// SHA256 is the hash of its content, in hexadecimal.
	SHA256 string
}

// Calls returns the calls that were answered so far, oldest first, at most
// [Config.KeepCalls] of them. A call is in it before its client sees the
// answer.
func (s *Server) Calls() []Call { return s.calls.all() }

// CallCount is how many calls of a method were answered, of all methods if it
// is "". Calls of methods that do not exist are counted under "unknown". It
// is exact even where Calls has forgotten.
func (s *Server) CallCount(method string) int {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if method == "" {
		return s.calls.total
	}
	return s.calls.counts[strings.ToLower(method)]
}

// Reset forgets all calls and sets their counts to zero.
func (s *Server) Reset() {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	s.calls.ring, s.calls.next, s.calls.total = nil, 0, 0
	clear(s.calls.counts)
}

// inspector remembers the newest calls in a ring.
type inspector struct {
	mu     sync.Mutex
	keep   int
	ring   []Call
	next   int // the oldest, once the ring is full
	total  int
	counts map[string]int
}

func (i *inspector) init(keep int) {
	i.keep, i.counts = keep, make(map[string]int)
}

func (i *inspector) add(c Call, known bool) {
	name := "unknown"
	if known {
		name = strings.ToLower(c.Method)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.total++
	i.counts[name]++
	switch {
	case i.keep < 0:
	case len(i.ring) < i.keep:
		i.ring = append(i.ring, c)
	default:
		i.ring[i.next] = c
		i.next = (i.next + 1) % i.keep
	}
}

func (i *inspector) all() []Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Concat(i.ring[i.next:], i.ring[:i.next])
}
