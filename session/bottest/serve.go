package bottest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// request is a call on its way through the server.
type request struct {
	srv    *Server
	ctx    context.Context // ends when the client gives up or the server is closed
	bot    *Bot
	token  string
	name   string // the method, in lower case
	params params
	files  map[string]*upload
	note   string // a description beside an ok result

	invoice *invoice // what is sent; nil for what is none

	call  Call
	known bool // the method exists
}

// method runs a call. The result is marshalled to JSON unless it is that.
type method struct {
	name string // in its usual spelling
	run  func(*request) (any, *apiError)
	sent bool // it sends messages
}

// serve answers one HTTP request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		answerError(restarting()).write(w)
		return
	}
	defer s.end()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	t, ok := parsePath(r.URL.Path)
	q := &request{srv: s, ctx: ctx, token: t.token}
	q.call = Call{Time: time.Now(), Test: t.test, ContentType: mediaType(r), Remote: r.RemoteAddr}
	if c := connOf(r); c != nil {
		q.call.Conn = c.number
	}
	q.bot = s.world.botOf(t.token)
	q.call.Bot = q.bot
	switch {
	case !ok:
		q.respond(w, r, 0, Action{}, func(time.Duration) answer { return answerError(notFound()) })
		return
	case t.file:
		q.name, q.call.Method, q.known = "download", "download", true
	default:
		q.nameIt(t.rest)
	}
	if _, do := s.faults.pick(&q.call, q.token, true); do.step == stepEarly {
		q.record(answer{})
		reset(r)
	}
	if bad := q.read(r); bad != nil {
		q.respond(w, r, 0, Action{}, func(time.Duration) answer { return answerError(bad) })
		return
	}
	if q.name == "" { // the method may be a parameter, as in a webhook's answer
		q.nameIt(q.params.get("method"))
	}
	wait, do := s.faults.pick(&q.call, q.token, false)
	if t.file {
		s.serveFile(w, r, q, t.rest, wait, do)
		return
	}
	q.respond(w, r, wait, do, func(wait time.Duration) answer { return q.perform(source(r), wait) })
}

// respond answers the call by executing it, or does what a fault says around
// or instead of that.
func (q *request) respond(w http.ResponseWriter, r *http.Request, wait time.Duration, do Action, execute func(time.Duration) answer) {
	var a answer
	switch do.step {
	case stepHang:
		<-q.ctx.Done()
	case stepAnswer:
		q.sleep(wait)
		a = do.answer
	default:
		a = execute(wait)
	}
	switch do.step {
	case stepAfter:
		q.record(answer{})
		reset(r)
	case stepAfterHang:
		<-q.ctx.Done()
	case stepAfterWait:
		q.sleep(do.wait)
	}
	if q.ctx.Err() != nil { // nobody hears the answer
		q.record(answer{})
		panic(http.ErrAbortHandler)
	}
	q.record(a)
	if do.step == stepAfterCut {
		a.cut(w)
	}
	a.write(w)
}

// perform executes the call if it may be, after a wait.
func (q *request) perform(source string, wait time.Duration) answer {
	result, bad := q.execute(source, wait)
	if bad != nil {
		q.sleep(bad.late)
		return answerError(bad)
	}
	return answerOK(result, q.note)
}

// execute runs the method after all checks that do not depend on it.
func (q *request) execute(source string, wait time.Duration) (json.RawMessage, *apiError) {
	if !validToken(q.token) {
		return nil, notFound()
	}
	if bad := q.srv.load(q, source); bad != nil {
		return nil, bad
	}
	if q.bot == nil {
		return nil, unauthorized()
	}
	leave, bad := q.bot.enter(q)
	if bad != nil {
		return nil, bad
	}
	defer leave()
	m, ok := q.srv.methods[q.name]
	if !ok {
		return nil, &apiError{code: http.StatusNotFound, description: "Not Found: method not found"}
	}
	if !q.sleep(wait) {
		return nil, restarting() // nobody hears it
	}
	q.call.Executed = true
	result, bad := m.run(q)
	if bad != nil {
		return nil, bad
	}
	if raw, ok := result.(json.RawMessage); ok {
		return raw, nil
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, &apiError{code: http.StatusInternalServerError, description: "Internal Server Error: " + err.Error()}
	}
	return raw, nil
}

// record puts the call into the inspector. It comes before the answer is
// written, so that who has the answer finds the call.
func (q *request) record(a answer) {
	q.call.Duration = time.Since(q.call.Time)
	q.call.Status, q.call.ErrorCode, q.call.Description = a.status, a.code, a.text
	q.srv.calls.add(q.call, q.known)
}

func (q *request) nameIt(name string) {
	q.name = strings.ToLower(name)
	q.call.Method = name
	if m, ok := q.srv.methods[q.name]; ok {
		q.call.Method, q.known = m.name, true
	}
}

// sleep waits, and reports false if the client gave up or the server was
// closed meanwhile.
func (q *request) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.ctx.Done():
		return false
	}
}

// reset breaks the request's connection and ends its handler.
func reset(r *http.Request) {
	if c := connOf(r); c != nil {
		c.reset()
	}
	panic(http.ErrAbortHandler)
}

// source is the address that the cold start is counted for.
func source(r *http.Request) string {
	if ip := r.Header.Get("X-Real-Ip"); ip != "" {
		return ip
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// target is what a URL's path names.
type target struct {
	token string
	test  bool
	file  bool
	rest  string // the method or the file's path
}

// parsePath reads /bot<token>/<method>, /bot<token>/test/<method> and both
// with /file before them and a file's path at the end.
func parsePath(path string) (t target, ok bool) {
	if rest, found := strings.CutPrefix(path, "/file/bot"); found {
		t.file, path = true, rest
	} else if path, found = strings.CutPrefix(path, "/bot"); !found {
		return t, false
	}
	if t.token, t.rest, ok = strings.Cut(path, "/"); !ok {
		return t, false
	}
	if rest, found := strings.CutPrefix(t.rest, "test/"); found {
		t.test, t.rest = true, rest
	}
	return t, true
}

// validToken holds the rules of the real server for the form of a token.
func validToken(token string) bool {
	id, _, ok := strings.Cut(token, ":")
	if !ok || len(token) > 80 || token[0] == '0' || strings.Count(token, ":") != 1 || strings.Contains(token, "/") {
		return false
	}
	n, err := strconv.ParseInt(id, 10, 64)
	return err == nil && n > 0 && n < 1<<54 && id[0] != '+'
}
