package session

import (
	"context"
	"net/http/httptrace"
	"strings"
)

// hiding returns a context whose [httptrace.ClientTrace], where the caller has
// one, is not told the token in a request's path: HTTP/2 sends it as a header field,
// and tracers note all of these.
func hiding(ctx context.Context, token Token) context.Context {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.WroteHeaderField == nil {
		return ctx
	}
	hidden := *trace
	hidden.WroteHeaderField = func(key string, value []string) {
		if key == ":path" {
			value = []string{token.Redact(strings.Join(value, ""))}
		}
		trace.WroteHeaderField(key, value)
	}
	return httptrace.WithClientTrace(untraced{ctx}, &hidden)
}

// untraced is a context without its trace, which another would only be added to.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}
