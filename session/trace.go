package session

import (
	"context"
	"net/http/httptrace"
	"net/textproto"
	"strings"
)

// hiding returns a context whose [httptrace.ClientTrace], where the caller has
// one, is not told the token: not in a request's path, which HTTP/2 sends as a
// header field, and tracers note all of these; nor in what a server says before its
// answer.
func hiding(ctx context.Context, token Token) context.Context {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.WroteHeaderField == nil && trace.Got1xxResponse == nil {
		return ctx
	}
	hidden := *trace
	if trace.WroteHeaderField != nil {
		hidden.WroteHeaderField = func(key string, value []string) {
			if key == ":path" {
				value = []string{token.Redact(strings.Join(value, ""))}
			}
			trace.WroteHeaderField(key, value)
		}
	}
	if trace.Got1xxResponse != nil {
		hidden.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
			shown := make(textproto.MIMEHeader, len(header))
			for key, values := range header {
				for _, value := range values {
					shown[key] = append(shown[key], token.Redact(value))
				}
			}
			return trace.Got1xxResponse(code, shown)
		}
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
