package polling

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSharesAreAsEqualAsWantsLetThem(t *testing.T) {
	for _, test := range []struct {
		tenants int
		wants   []int
		want    []int
	}{
		{0, []int{0, 0}, []int{0, 0}},
		{10, []int{10}, []int{10}},
		{10, []int{10, 10, 10}, []int{4, 4, 4}},
		{10, []int{10, 0}, []int{10, 0}},
		{10, []int{2, 10, 10}, []int{2, 4, 4}},
		{10, []int{1, 2, 3}, []int{1, 2, 3}},
		{10, []int{9, 10, 1}, []int{5, 5, 1}},
		{3, []int{9, 9, 9, 9}, []int{1, 1, 1, 1}},
	} {
		wants := make(map[string]int)
		for i, w := range test.wants {
			wants[string(rune('a'+i))] = w
		}
		got := shares(wants, test.tenants)
		for i, w := range test.want {
			assert.Equal(t, w, got[string(rune('a'+i))], "%d of %v", i, test)
		}
	}
}

func TestSharesAreEnoughForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenants := rapid.IntRange(0, 10_000).Draw(t, "tenants")
		wants := rapid.MapOf(rapid.String(), rapid.IntRange(0, 10_000)).Draw(t, "wants")
		each := shares(wants, tenants)
		sum, all, most := 0, 0, slices.Max(append(slices.Collect(maps.Values(each)), 0))
		for owner, w := range wants {
			all, sum = all+w, sum+each[owner]
			require.LessOrEqual(t, each[owner], w)
			require.True(t, each[owner] == w || each[owner] == most, "who has less than others has all it wants")
		}
		require.GreaterOrEqual(t, sum, min(all, tenants))
		require.LessOrEqual(t, sum, tenants+len(wants), "rounded up, and no more")
	})
}
