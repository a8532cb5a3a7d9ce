package ratelimit

import (
	"time"

	"golang.org/x/time/rate"
)

// Limiter is a supply of units that several may draw on. [Bucket] is the one
// of this process, [Leased] one that is shared with other processes, and
// [Adapt] makes one of a [rate.Limiter]. [Config.Shared] is where a
// [Scheduler] takes one.
//
// It is safe for concurrent use, and quick: it does not wait and does no I/O.
type Limiter interface {
	// Take takes n units at the time now if need of them are there, and
	// returns 0. Otherwise it takes nothing and returns how long to wait
	// before it is worth asking again; [Forever] where there never will be
	// that many. need is n, or less for a request that is larger than the
	// supply can hold: it leaves a debt, which later ones wait for.
	Take(now time.Time, n, need int) (wait time.Duration)
	// Give gives back n units that were taken a moment ago and not used.
	Give(now time.Time, n int)
}

// Notifier is a Limiter that may have units sooner than it last said. The
// Scheduler asks for a call of f whenever it is worth asking again; f is quick
// and may be called from any goroutine, though not from within Take or Give.
type Notifier interface {
	// Notify adds f to those who are told.
	Notify(f func())
}

// Adapt makes a Limiter of an x/time/rate limiter that other code of the
// process draws on too.
//
// What is given back and a debt are both written into the limiter as it is, so
// the other code sees them.
func Adapt(l *rate.Limiter) Limiter { return adapted{l} }

type adapted struct{ l *rate.Limiter }

func (a adapted) Take(now time.Time, n, need int) time.Duration {
	if a.l.Limit() == rate.Inf || n <= 0 {
		return 0
	}
	if need > a.l.Burst() {
		return Forever
	}
	// Other code may take tokens between two calls, so the need is taken
	// first, and what is over it becomes a debt.
	if !a.l.AllowN(now, need) {
		missing := float64(need) - a.l.TokensAt(now)
		wait := missing / float64(a.l.Limit()) * float64(time.Second)
		if !(wait < float64(Forever)) {
			return Forever
		}
		return max(time.Duration(wait), 0) + 1
	}
	for rest := n - need; rest > 0; {
		part := min(rest, a.l.Burst())
		if !a.l.ReserveN(now, part).OK() {
			break // the burst was made smaller meanwhile
		}
		rest -= part
	}
	return 0
}

// Give adds tokens by taking a negative number: Reservation.Cancel gives
// nothing back once a token's time has come, and AllowN does nothing while
// there is a debt.
func (a adapted) Give(now time.Time, n int) {
	if n > 0 {
		a.l.ReserveN(now, -n)
	}
}
