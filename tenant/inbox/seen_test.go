package inbox

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSeenRemembersAsASetDoes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var s seen
		model := make(map[int64]int64)
		hour := int64(1000)
		for range rapid.IntRange(1, 80).Draw(r, "steps") {
			id := rapid.Int64Range(1, 40).Draw(r, "id")
			_, known := model[id]
			require.Equal(r, known, s.has(id), "%d in %v", id, s.spans)
			if !known {
				s.add(id, hour)
				model[id] = hour
			}
			if rapid.IntRange(0, 5).Draw(r, "later") == 0 {
				hour++
				s.forget(hour - 5)
				for id, at := range model {
					if at < hour-5 {
						delete(model, id)
					}
				}
			}
		}
		for id := int64(0); id <= 41; id++ {
			_, known := model[id]
			require.Equal(r, known, s.has(id))
		}
		for i := 1; i < len(s.spans); i++ {
			require.Less(r, s.spans[i-1].hi, s.spans[i].lo)
		}
	})
}

func TestADayOfIDsIsAFewSpans(t *testing.T) {
	var s seen
	for hour := range int64(24) {
		ids := rand.Perm(10_000) // as they come by many connections
		for _, id := range ids {
			s.add(1+hour*10_000+int64(id), hour)
		}
	}
	assert.Len(t, s.spans, 24)
}
