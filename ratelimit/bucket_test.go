package ratelimit

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

func TestABucketLetsItsBurstPassAndThenItsRate(t *testing.T) {
	b := NewBucket(Limit{Rate: 2, Burst: 3})
	now := time.Now()
	assert.Equal(t, 3, b.Tokens(now))
	assert.Zero(t, b.Take(now, 3, 3))
	assert.Equal(t, 500*time.Millisecond, b.Take(now, 1, 1))
	assert.Equal(t, time.Second, b.Take(now, 2, 2))
	assert.Zero(t, b.Take(now.Add(500*time.Millisecond), 1, 1))
	assert.Equal(t, 0, b.Tokens(now.Add(500*time.Millisecond)))
	assert.Equal(t, 3, b.Tokens(now.Add(time.Hour)))
	b.SetLimit(now.Add(time.Hour), Limit{Rate: 1, Burst: 5})
	assert.Equal(t, 5, b.Tokens(now.Add(time.Hour)), "full at its new size")
	assert.False(t, NewBucket(Limit{Burst: -1}).Allow(1))
	assert.True(t, NewBucket(Unlimited).Allow(math.MaxInt))
	assert.Equal(t, math.MaxInt, NewBucket(Limit{}).Tokens(now))
}

func TestADebtIsWaitedFor(t *testing.T) {
	b := NewBucket(Limit{Rate: 1, Burst: 3})
	now := time.Now()
	assert.Zero(t, b.Take(now, 10, 3))
	assert.Equal(t, -7, b.Tokens(now))
	assert.Equal(t, 8*time.Second, b.Take(now, 1, 1))
	assert.Equal(t, 10*time.Second, b.Take(now, 3, 3))
}

// PITFALLS, limiter: "Rates near zero and zero, bursts of zero, and a clock that
// steps back."
func TestRatesNearZeroAndZero(t *testing.T) {
	now := time.Now().Add(time.Second)
	for _, r := range []float64{0, math.SmallestNonzeroFloat64, 1e-300, 1e-18, 1e-12} {
		b := NewBucket(Limit{Rate: r, Burst: 2})
		assert.Zero(t, b.Take(now, 2, 2), r)
		assert.Greater(t, b.Take(now, 1, 1), 30*365*24*time.Hour, r)
		assert.Greater(t, b.Take(now.Add(time.Hour), 1, 1), 30*365*24*time.Hour, r)
		assert.Equal(t, 0, b.Tokens(now.Add(time.Hour)), r)
	}
	slow := NewBucket(Limit{Rate: 1.0 / 86400, Burst: 1})
	now = time.Now().Add(time.Second)
	assert.Zero(t, slow.Take(now, 1, 1))
	assert.Equal(t, 24*time.Hour, slow.Take(now, 1, 1))
	nan := NewBucket(Limit{Rate: math.NaN()})
	assert.Zero(t, nan.Take(now, 1, 1))
	assert.Equal(t, Forever, nan.Take(now, 1, 1))
}

func TestBurstsOfZero(t *testing.T) {
	b := NewBucket(Limit{Rate: 5, Burst: -1})
	assert.Equal(t, Forever, b.Take(time.Now(), 1, 1))
	assert.Zero(t, b.Tokens(time.Now()))
	assert.Equal(t, Forever, b.Take(time.Now().Add(time.Hour), 1, 1))
	assert.Zero(t, b.Take(time.Now(), 0, 0), "nothing always passes")
	assert.Zero(t, b.Take(time.Now(), -3, -3))
	assert.Zero(t, b.Tokens(time.Now()), "and takes nothing")
}

func TestAClockThatStepsBack(t *testing.T) {
	b := NewBucket(Limit{Rate: 1, Burst: 2})
	now := time.Now()
	assert.Zero(t, b.Take(now, 2, 2))
	assert.Equal(t, time.Second, b.Take(now.Add(-100*time.Millisecond), 1, 1), "a caller who read the clock before")
	assert.Zero(t, b.Take(now.Add(time.Second), 1, 1))
	assert.NotZero(t, b.Take(now.Add(500*time.Millisecond), 1, 1), "the token is not handed out twice")
	back := now.Add(-time.Hour)
	assert.Equal(t, time.Second, b.Take(back, 1, 1), "it was set back: what was there stays")
	assert.Zero(t, b.Take(back.Add(time.Second), 1, 1), "and the bucket goes on")
	assert.NotZero(t, b.Take(back.Add(time.Second), 1, 1))

	early := NewBucket(Limit{Rate: 1, Burst: 2})
	assert.Equal(t, 2, early.Tokens(time.Unix(0, 0)), "a time before it was made")
	assert.Zero(t, early.Take(time.Time{}, 2, 2))
	assert.NotZero(t, early.Take(time.Time{}, 1, 1))
	assert.Zero(t, early.Take(time.Time{}.Add(time.Second), 1, 1))
}

func TestATimeFarAheadDoesNotOverflow(t *testing.T) {
	b := NewBucket(Limit{Rate: 1, Burst: 2})
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 20 {
		assert.Zero(t, b.Take(far, 2, 2))
		assert.Equal(t, time.Second, b.Take(far, 1, 1))
		assert.Zero(t, b.Take(far.Add(time.Second), 1, 1))
		far = far.Add(time.Hour)
	}
}

// PITFALLS, limiter: "rate.Limiter.Reserve then Cancel of an immediate token
// gives nothing back; floats drift after many cancels."
func TestWhatIsGivenBackIsThereAgainExactly(t *testing.T) {
	now := time.Now()
	for name, l := range map[string]Limiter{
		"bucket":  NewBucket(Limit{Rate: 1.0 / 3, Burst: 5}),
		"adapted": Adapt(rate.NewLimiter(1.0/3, 5)),
	} {
		for range 100_000 {
			if l.Take(now, 3, 3) != 0 {
				t.Fatal(name)
			}
			l.Give(now, 3)
		}
		assert.Zero(t, l.Take(now, 5, 5), name)
		assert.NotZero(t, l.Take(now, 1, 1), name)
	}
}

func TestWhatTheTimeHasGivenBackIsNotGivenBackTwice(t *testing.T) {
	b := newBucket(Limit{Rate: 0.25e9, Burst: 2}) // a token in four nanoseconds
	b.take(0, 2)
	b.take(4, 1) // to be given back
	b.take(10, 1)
	b.give(1, 6)
	assert.NotZero(t, b.delay(12, 2), "without the one, the bucket would have been full at 8")
	b.take(100, 1)
	b.give(1, 1)
	assert.EqualValues(t, 1, b.delay(100, 2), "what came in the one nanosecond is lost")

	none := newBucket(Limit{Burst: 2})
	none.take(0, 2)
	none.give(1, 0)
	assert.EqualValues(t, 1, none.missing(9))
	none.give(5, 9)
	assert.Zero(t, none.missing(9))
}

func TestALimitThatChangesKeepsPartsOfTokens(t *testing.T) {
	b := newBucket(Limit{Rate: 1, Burst: 5})
	b.take(0, 5)
	now := int64(0)
	for i := range 1000 { // every millisecond another limit
		now += int64(time.Millisecond)
		b.set(now, Limit{Rate: 1 + float64(i%2), Burst: 5})
	}
	assert.InDelta(t, 1.75e9, b.due-now, 1e6, "one and a half came, so at two a second it is full in 1.75 s")
	assert.EqualValues(t, 1, b.tokens(now))
	b.set(now, Limit{Burst: 5})
	assert.EqualValues(t, 1, b.tokens(now+int64(time.Hour)), "no more come")
	b.set(now, Limit{Rate: 1, Burst: 7})
	assert.EqualValues(t, 3, b.tokens(now), "four are missing still")
	b.set(now, Unlimited)
	b.set(now, Limit{Rate: 1, Burst: 7})
	assert.EqualValues(t, 7, b.tokens(now), "without a limit nothing was counted")
	b.set(now, Limit{Rate: 1e-6, Burst: math.MaxInt32})
	b.take(now, math.MaxInt32)
	b.set(now, Limit{Rate: 1e-9, Burst: 2})
	assert.Positive(t, b.due, "no overflow")
	assert.Zero(t, b.tokens(now))
}

// PITFALLS, limiter: "Fixed windows admit twice the limit around the edge: do
// not use them."
func TestInNoStretchOfTimeDoesMorePassThanTheLimit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		interval := rapid.Int64Range(1, 1e6).Draw(rt, "interval")
		burst := rapid.IntRange(1, 6).Draw(rt, "burst")
		b := newBucket(Limit{Rate: 1e9 / float64(interval), Burst: burst})
		type taken struct{ at, n int64 }
		var log []taken
		now := int64(0)
		for range 60 {
			now += rapid.Int64Range(0, 3*interval).Draw(rt, "step")
			n := rapid.IntRange(1, burst).Draw(rt, "n")
			if b.delay(now, n) > 0 {
				continue
			}
			b.take(now, n)
			if rapid.IntRange(0, 5).Draw(rt, "give") == 0 {
				later := now + rapid.Int64Range(0, 2*interval).Draw(rt, "later")
				if b.delay(later, 1) == 0 {
					b.take(later, 1)
					log = append(log, taken{later, 1})
				}
				b.give(n, later-now)
				now = later
				continue
			}
			log = append(log, taken{now, int64(n)})
		}
		for i := range log {
			sum := int64(0)
			for _, l := range log[i:] {
				sum += l.n
				if most := int64(burst) + (l.at-log[i].at)/interval; sum > most {
					rt.Fatalf("%d in %d, at most %d", sum, l.at-log[i].at, most)
				}
			}
		}
	})
}

func TestMissAddsWhatAnotherBucketHasMissing(t *testing.T) {
	perSecond, perTwo, none := Limit{Rate: 1, Burst: 4}, Limit{Rate: 0.5, Burst: 4}, Limit{Burst: 4}
	for _, test := range []struct {
		to, of Limit
		want   int
	}{
		{perSecond, perSecond, 1}, {perTwo, perSecond, 1}, {perSecond, none, 1}, {none, perSecond, 1},
		{perSecond, Unlimited, 3}, {Unlimited, perSecond, math.MaxInt},
	} {
		to, of := newBucket(test.to), newBucket(test.of)
		to.take(0, 1)
		of.take(0, 2)
		to.miss(0, &of)
		assert.Equal(t, test.want, to.tokens(0), "%v %v", test.to, test.of)
	}
}

func TestAdaptedGivesBackIntoADebt(t *testing.T) {
	now := time.Now()
	l := rate.NewLimiter(1, 5)
	a := Adapt(l)
	assert.Zero(t, a.Take(now, 17, 5))
	assert.InDelta(t, -12, l.TokensAt(now), 1e-6)
	a.Give(now, 2)
	assert.InDelta(t, -10, l.TokensAt(now), 1e-6)
	a.Give(now, -2)
	assert.InDelta(t, -10, l.TokensAt(now), 1e-6)
	assert.InDelta(t, float64(11*time.Second), float64(a.Take(now, 1, 1)), 10)
	assert.Equal(t, Forever, a.Take(now, 6, 6), "above the burst")
	assert.Equal(t, Forever, Adapt(rate.NewLimiter(0, 1)).Take(now, 2, 2))
	spent := Adapt(rate.NewLimiter(0, 1))
	assert.Zero(t, spent.Take(now, 1, 1))
	assert.Equal(t, Forever, spent.Take(now, 1, 1))
	assert.Zero(t, Adapt(rate.NewLimiter(rate.Inf, 0)).Take(now, 100, 100))
}
