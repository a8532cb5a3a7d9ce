package inbox

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/tgfleet/tgfleet/session"
)

// PanicError is what a panic in a handler is to those outside: a failed
// attempt. It prints without Value, which may have a user's text in it, but for
// what the runtime itself raised, such as an index out of range.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is where.
	Stack []byte
}

// Error says of what type the panic was.
func (e PanicError) Error() string {
	if err, ok := e.Value.(runtime.Error); ok {
		return "panic: " + session.Redact(err.Error())
	}
	return fmt.Sprintf("panic of type %T", e.Value)
}

// Format prints what Error returns, whatever the verb.
func (e PanicError) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.Error())) }

// MarshalText returns what Error returns, so that JSON shows no more.
func (e PanicError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// newPanic makes an error of what was recovered. It is called where it was.
func newPanic(value any) *PanicError { return &PanicError{Value: value, Stack: debug.Stack()} }

// attrs is what the operator is told of a panic.
func (e *PanicError) attrs(u Update) []any {
	return []any{slog.Any("update", u), slog.String("panic", e.Error()), slog.String("stack", session.Redact(string(e.Stack)))}
}
