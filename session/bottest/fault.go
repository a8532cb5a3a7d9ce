package bottest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Fault is something that goes wrong on demand. Its fields select calls; all
// of them must agree, and a field left zero agrees with every call. Of
// several faults that select the same call, latencies add up, and the first
// other one registered is done.
type Fault struct {
	// Bot selects the calls with this bot's present token.
	Bot *Bot
	// Token selects the calls with this token, known or not.
	Token string
	// Method selects the calls of a method, in any spelling; "download" is
	// the download of a file.
	Method string
	// When selects by a function of what is known of the call: its bot,
	// method, parameters and files, but for [ResetBefore], which comes before
	// parameters are read. It may be called concurrently and must not call
	// the server.
	When func(Call) bool

	// Nth selects only the nth of the calls that agree, counted from 1.
	Nth int
	// Every selects each nth of them: the nth, the 2nth, and so on.
	Every int
	// Times ends the fault after it was done so many times. Zero means never.
	Times int

	// Do is what happens to the selected calls.
	Do Action
}

// An Action is what a [Fault] does to a call. The functions that make one say
// whether the call is executed, that is, whether what it asked for was done.
type Action struct {
	name   string
	step   step
	wait   time.Duration
	answer answer
}

// step is when an action takes place.
type step int

const (
	stepNone     step = iota
	stepEarly         // before the body is read: reset
	stepWait          // before execution: wait, then go on
	stepHang          // instead of execution: never answer
	stepAnswer        // instead of execution: answer something
	stepAfter         // after execution: reset
	stepAfterCut      // after execution: cut the answer
	stepAfterHang
	stepAfterWait
)

// String names the action as [Call.Fault] does.
func (a Action) String() string { return a.name }

// Latency makes the call wait before it is executed. It is executed unless
// the client gave up meanwhile.
func Latency(d time.Duration) Action { return Action{name: "Latency", step: stepWait, wait: d} }

// SlowAnswer executes the call at once, and answers later.
func SlowAnswer(d time.Duration) Action {
	return Action{name: "SlowAnswer", step: stepAfterWait, wait: d}
}

// Hang reads the request and never answers, until the client gives up or the
// server is closed. The call is not executed.
func Hang() Action { return Action{name: "Hang", step: stepHang} }

// HangAfter is [Hang] after the call was executed.
func HangAfter() Action { return Action{name: "HangAfter", step: stepAfterHang} }

// ResetBefore resets the connection once the request's head has arrived, since
// that names the method, and before its body is read. The call is not
// executed. Over HTTP/2 all calls of the connection are hit.
func ResetBefore() Action { return Action{name: "ResetBefore", step: stepEarly} }

// ResetAfter resets the connection after the request was read and executed:
// the message is in the chat, and the client cannot know. Over HTTP/2 all
// calls of the connection are hit.
func ResetAfter() Action { return Action{name: "ResetAfter", step: stepAfter} }

// CutJSON executes the call and breaks the connection in the middle of the
// answer's body.
func CutJSON() Action { return Action{name: "CutJSON", step: stepAfterCut} }

// HTML502 answers 502 with the HTML page of a proxy. The call is not executed.
func HTML502() Action {
	return instead("HTML502", answer{status: http.StatusBadGateway, kind: "text/html", body: []byte(
		"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n" +
			"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.18.0</center>\r\n</body>\r\n</html>\r\n")})
}

// Restart500 answers "Internal Server Error: restart", as a server does that
// is shutting down. The call is not executed.
func Restart500() Action { return failing("Restart500", restarting()) }

// NoOK answers 200 with JSON that has no field ok. The call is not executed.
func NoOK() Action {
	return instead("NoOK", answer{status: http.StatusOK, kind: jsonType, body: []byte(`{"result":true}`)})
}

// EmptyBody answers 200 with an empty body. The call is not executed.
func EmptyBody() Action {
	return instead("EmptyBody", answer{status: http.StatusOK, kind: jsonType})
}

// Unauthorized401 answers as if the token had been revoked. The call is not
// executed.
func Unauthorized401() Action { return failing("Unauthorized401", unauthorized()) }

// Forbidden403 answers "Forbidden: " and the text, such as "bot was blocked by
// the user". The call is not executed.
func Forbidden403(text string) Action {
	return failing("Forbidden403", forbidden(strings.TrimPrefix(text, "Forbidden: ")))
}

// BadRequest400 answers "Bad Request: " and the text, such as "chat not
// found". The call is not executed.
func BadRequest400(text string) Action {
	return failing("BadRequest400", badRequest(strings.TrimPrefix(text, "Bad Request: ")))
}

// Conflict409 answers as if another getUpdates had taken over. The call is
// not executed.
func Conflict409() Action { return failing("Conflict409", conflict(otherPoller)) }

// TooManyRequests answers 429 with the wait in retry_after and in the header
// Retry-After, in whole seconds, rounded up, at least 1. The call is not
// executed.
func TooManyRequests(wait time.Duration) Action { return failing("TooManyRequests", tooMany(wait)) }

// Respond answers with any status, content type and body. The call is not
// executed.
func Respond(status int, contentType, body string) Action {
	if status < 200 || status > 999 { // net/http would panic
		status = http.StatusOK
	}
	return instead("Respond", answer{status: status, kind: contentType, body: []byte(body)})
}

func instead(name string, a answer) Action {
	return Action{name: name, step: stepAnswer, answer: a}
}

func failing(name string, e *apiError) Action { return instead(name, answerError(e)) }

// Fail adds a fault. It lasts until it has happened [Fault.Times] times or
// remove is called, which may be done more than once.
func (s *Server) Fail(f Fault) (remove func()) {
	f.Method = strings.ToLower(f.Method)
	active := &activeFault{Fault: f}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, active)
	s.faults.count.Store(int32(len(s.faults.list)))
	return func() { s.faults.remove(active) }
}

type activeFault struct {
	Fault
	seen, done int
}

// faultSet holds the faults in the order they were added.
type faultSet struct {
	count atomic.Int32 // len(list), to find none without the lock
	mu    sync.Mutex
	list  []*activeFault
}

func (f *faultSet) remove(a *activeFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(b *activeFault) bool { return a == b })
	f.count.Store(int32(len(f.list)))
}

// pick returns what is to be done to a call: how long it waits before it is
// executed, and the action besides. Early is whether its body is still unread.
func (f *faultSet) pick(c *Call, token string, early bool) (wait time.Duration, do Action) {
	if f.count.Load() == 0 {
		return 0, Action{}
	}
	method := strings.ToLower(c.Method)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(a *activeFault) bool {
		if (a.Do.step == stepEarly) != early || !a.matches(c, token, method) {
			return false
		}
		if a.Do.step != stepWait && do.step != stepNone {
			return false // only one is done, and this one keeps its turn
		}
		a.seen++
		if a.Nth > 0 && a.seen != a.Nth || a.Every > 0 && a.seen%a.Every != 0 {
			return false
		}
		a.done++
		if a.Do.step == stepWait {
			wait += a.Do.wait
			c.Fault = a.Do.name
		} else {
			do = a.Do
		}
		return a.Times > 0 && a.done >= a.Times || a.Nth > 0
	})
	f.count.Store(int32(len(f.list)))
	if do.step != stepNone {
		c.Fault = do.name
	}
	return wait, do
}

func (a *activeFault) matches(c *Call, token, method string) bool {
	return (a.Bot == nil || a.Bot == c.Bot) &&
		(a.Token == "" || a.Token == token) &&
		(a.Method == "" || a.Method == method) &&
		(a.When == nil || a.When(*c))
}
