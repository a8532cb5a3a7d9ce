package loop

import (
	"log/slog"
	"time"
)

// Seldom logs an error that may come again and again: at once, and then at most
// once in a minute, with how many times it was left out meanwhile. Its zero value
// is ready. It is for one goroutine at a time.
type Seldom struct {
	next time.Time
	left int
}

// Log logs, or leaves it out.
func (s *Seldom) Log(log *slog.Logger, what string, attrs ...any) {
	now := time.Now()
	if now.Before(s.next) {
		s.left++
		return
	}
	if s.left > 0 {
		attrs = append(attrs, slog.Int("left_out", s.left))
	}
	log.Error(what, attrs...)
	s.next, s.left = now.Add(time.Minute), 0
}
