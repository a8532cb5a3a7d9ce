package sqlstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestAPageHoldsAtLeastOneRow(t *testing.T) {
	for name, row := range map[string]struct {
		sizes []int
		want  int
	}{
		"as many as fit":            {[]int{MaxPage - 1, 1, 1}, 2},
		"one that is larger":        {[]int{MaxPage + 1, 1}, 1},
		"one that would be beyond":  {[]int{1, MaxPage}, 1},
		"rows of nothing have some": {[]int{0, MaxPage}, 1},
	} {
		var room PageRoom
		got := 0
		for _, size := range row.sizes {
			if !room.Take(size) {
				break
			}
			got++
		}
		assert.Equal(t, row.want, got, name)
	}
	r := tenant.Record{ID: "12", Username: "3", Name: "4", Reason: "5", Health: "6", Metadata: map[string]string{"7": "8"}}
	assert.Equal(t, 8, SizeOf(&r))
}
