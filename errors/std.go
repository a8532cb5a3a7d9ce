package errors

import "errors"

// ErrUnsupported is the standard library's [errors.ErrUnsupported].
var ErrUnsupported = errors.ErrUnsupported

// New returns an error with the given text, as [errors.New] does.
func New(text string) error { return errors.New(text) }

// Is reports whether any error in err's tree matches target, as [errors.Is]
// does. A [Kind] is a target like any other.
func Is(err, target error) bool { return errors.Is(err, target) }

// As finds the first error in err's tree that matches target, as [errors.As]
// does.
func As(err error, target any) bool { return errors.As(err, target) }

// AsType finds the first error in err's tree of the type E, as
// [errors.AsType] does.
func AsType[E error](err error) (E, bool) { return errors.AsType[E](err) }

// Join wraps the given errors, as [errors.Join] does.
func Join(errs ...error) error { return errors.Join(errs...) }

// Unwrap returns the error that err wraps, as [errors.Unwrap] does.
func Unwrap(err error) error { return errors.Unwrap(err) }
