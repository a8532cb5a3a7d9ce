package sqlinbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func everyone(string) bool { return true }

// looked returns one that has looked and found these.
func looked(t *testing.T, now time.Time, found ...string) *Ready {
	t.Helper()
	r := &Ready{}
	at, look := r.Begin(now)
	require.True(t, look, "it knows nothing")
	r.Looked(at, found, now)
	return r
}

func TestTenantsThatAreReadyTakeTurns(t *testing.T) {
	r := looked(t, time.Now(), "a", "b", "c")
	assert.Equal(t, []string{"a", "b"}, r.Turn(2, everyone))
	r.Had("a")
	r.Had("unknown")
	assert.Equal(t, []string{"b", "c", "a"}, r.Turn(9, everyone))
	assert.Equal(t, []string{"c", "a"}, r.Turn(9, func(t string) bool { return t != "b" }))
	assert.Equal(t, []string{"b", "c", "a"}, r.Turn(9, everyone), "who is passed over keeps its turn")
}

func TestWhatIsMadeReadyDuringALookOrALeaseIsNotForgotten(t *testing.T) {
	now := time.Now()
	r := &Ready{}
	r.Add("too early") // the look will find it
	at, _ := r.Begin(now)
	r.Add("during the look")
	r.Looked(at, []string{"a"}, now)
	assert.Equal(t, []string{"during the look", "a"}, r.Turn(9, everyone))

	at, look := r.Begin(now)
	require.False(t, look)
	r.Add("a") // it had been asked already, and had nothing
	r.None(at, "a")
	r.None(at, "during the look")
	assert.Equal(t, []string{"a"}, r.Turn(9, everyone))
	at, _ = r.Begin(now)
	r.None(at, "a")
	assert.Empty(t, r.Turn(9, everyone))

	r.Add("gone")
	at, _ = r.Begin(now.Add(time.Minute))
	r.Looked(at, nil, now)
	assert.Empty(t, r.Turn(9, everyone), "a look finds who has nothing any more")
	r.Forget()
	r.Looked(at, []string{"b"}, now) // what was found may have been rolled back
	_, look = r.Begin(now)
	assert.True(t, look)
	assert.Empty(t, r.Turn(9, everyone))
}

func TestALookAtManyIsRestedFrom(t *testing.T) {
	now := time.Now()
	look := func(r *Ready, after time.Duration) bool {
		_, look := r.Begin(now.Add(after))
		return look
	}
	few := looked(t, now, "a")
	assert.False(t, look(few, 0), "nothing has changed")
	few.Changed()
	assert.True(t, look(few, 0))
	assert.True(t, look(looked(t, now), time.Second), "whatever seems to have changed")

	var tenants []string
	for n := range 10_000 {
		tenants = append(tenants, fmt.Sprint(n))
	}
	many := looked(t, now, tenants...)
	many.Changed()
	assert.False(t, look(many, 999*time.Millisecond))
	assert.True(t, look(many, time.Second), "the change was not forgotten")
	assert.True(t, look(looked(t, now, tenants...), -time.Hour), "a clock that was set back")
}
