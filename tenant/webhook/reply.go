package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// ErrNoReply says that a call can't travel in the webhook's answer, since that
// is gone or taken: make it as any other.
var ErrNoReply = errors.New("no webhook's answer waits for a reply")

// replies are the requests whose answer waits for a handler.
type replies struct {
	mu      sync.Mutex // guards what follows
	waiting map[inbox.Ref]*reply
}

// reply is an answer that waits.
type reply struct {
	ready chan struct{} // closed when there is nothing more to wait for

	mu   sync.Mutex // guards what follows
	over bool       // closed, or too late
	body []byte
}

// end fills the answer and reports whether that was in time.
func (r *reply) end(body []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.over, r.body = true, body
	close(r.ready)
	return true
}

func (r *replies) open(ref inbox.Ref) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = make(map[inbox.Ref]*reply)
	}
	if r.waiting[ref] != nil {
		return nil // Telegram sends it a second time, and the first still waits
	}
	w := &reply{ready: make(chan struct{})}
	r.waiting[ref] = w
	return w
}

func (r *replies) find(ref inbox.Ref) *reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[ref]
}

func (r *replies) close(ref inbox.Ref, w *reply) {
	w.end(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, ref)
}

// wait waits for the handler, and returns what it has put into the answer.
func (w *reply) wait(ctx context.Context, most time.Duration) []byte {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
		w.end(nil)
	case <-ctx.Done():
		w.end(nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body
}

type replyKey struct{}

// Replies is the middleware that lets handlers answer in the webhook's answer;
// see [Config].ReplyWithin. Place it around the handler of the workers. What
// comes of it is [inbox.Kinded] if the handler is.
func (rc *Receiver) Replies() inbox.Middleware {
	return func(next inbox.Handler) inbox.Handler {
		h := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			if w := rc.replies.find(u.Ref()); w != nil {
				defer w.end(nil)
				ctx = context.WithValue(ctx, replyKey{}, w)
			}
			return next.HandleUpdate(ctx, t, u)
		})
		if k, ok := next.(inbox.Kinded); ok {
			return kinded{h, k}
		}
		return h
	}
}

// kinded lets the kinds of a handler show through what is around it.
type kinded struct {
	inbox.Handler
	inbox.Kinded
}

// Reply makes a call of the Bot API by way of the webhook's answer, which
// saves a request. ctx is the handler's. Nobody learns what becomes of it: not
// its result, not whether it failed, and it is lost when the connection
// breaks. It passes by the session and its limits. So it is for what may be
// lost, such as answering a callback query.
//
// It returns [ErrNoReply] where no answer waits: the update came by another
// way or to another process, the time is over, or another Reply has it. Then
// make the call yourself. A method that can't be called so (get..., setWebhook,
// deleteWebhook, close, logOut), and parameters that are no JSON, are errors of
// kind [errors.BadRequest]. Files can't be sent.
func Reply(ctx context.Context, method string, params map[string]any) error {
	const op = "reply in the webhook's answer"
	switch lower := strings.ToLower(method); {
	case lower == "", lower == "setwebhook", lower == "deletewebhook", lower == "close", lower == "logout", strings.HasPrefix(lower, "get"):
		return fail(op, "", errors.BadRequest, errors.New("the method can't be called in an answer"))
	}
	w, _ := ctx.Value(replyKey{}).(*reply)
	if w == nil {
		return ErrNoReply
	}
	all := maps.Clone(params)
	if all == nil {
		all = make(map[string]any, 1)
	}
	all["method"] = method
	body, err := json.Marshal(all)
	if err != nil {
		return fail(op, "", errors.BadRequest, fmt.Errorf("parameters are no JSON: %T", err))
	}
	if !w.end(body) {
		return ErrNoReply
	}
	return nil
}
