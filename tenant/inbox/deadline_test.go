package inbox

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestDeadlineIsLikeThatOfPackageContext holds a deadline against
// context.WithDeadline, whatever is asked of it and whenever, and whatever ends
// it.
func TestDeadlineIsLikeThatOfPackageContext(t *testing.T) {
	type key struct{}
	rapid.Check(t, func(r *rapid.T) {
		// rapid's draws end the goroutine, so they are made before the bubble.
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"done", "err", "value", "child", "cause", "wait", "cancel", "end parent", "deadline"}), 1, 12).Draw(r, "steps")
		early := rapid.Bool().Draw(r, "the parent has an earlier deadline")
		synctest.Test(t, func(t *testing.T) {
			parent, end := context.WithCancelCause(context.WithValue(context.Background(), key{}, "mine"))
			defer end(nil)
			if early {
				var stop context.CancelFunc
				parent, stop = context.WithTimeout(parent, 2*time.Second)
				defer stop()
			}
			at := time.Now().Add(3 * time.Second)
			want, cancel := context.WithDeadline(parent, at)
			defer cancel()
			got := newDeadline(parent, at)
			defer got.cancel()
			same := func() {
				synctest.Wait()
				require.Equal(t, want.Err(), got.Err(), "%v", steps)
			}
			for _, step := range steps {
				switch step {
				case "done":
					synctest.Wait()
					require.Equal(t, over(want), over(got), "%v", steps)
				case "err":
					same()
				case "value":
					require.Equal(t, "mine", got.Value(key{}))
					require.Nil(t, got.Value("another"))
				case "child":
					synctest.Wait()
					a, stop := context.WithCancel(want)
					defer stop()
					b, stop := context.WithCancel(got)
					defer stop()
					require.Equal(t, a.Err(), b.Err(), "%v", steps)
					defer func() {
						synctest.Wait()
						require.Equal(t, a.Err(), b.Err(), "%v", steps)
					}()
				case "cause":
					synctest.Wait()
					require.Equal(t, context.Cause(want), context.Cause(got), "%v", steps)
				case "wait":
					time.Sleep(time.Second)
					synctest.Wait() // for the timer that fires at the same time
				case "cancel":
					cancel()
					got.cancel()
				case "end parent":
					same() // or nobody could tell afterwards which came first
					end(errStopped)
				case "deadline":
					a, _ := want.Deadline()
					b, ok := got.Deadline()
					require.True(t, ok)
					require.Equal(t, a, b)
				}
			}
			same()
		})
	})
}

func over(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func TestDeadlineThatNobodyWaitsForIsCheap(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	at := time.Now().Add(time.Hour)
	n := testing.AllocsPerRun(100, func() {
		d := newDeadline(parent, at)
		_ = d.Err()
		d.cancel()
	})
	assert.LessOrEqual(t, n, 1.0)
}
