package usage

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFewChatsAreCountedExactlyAndManyWithinSevenPerCent(t *testing.T) {
	var d Distinct
	for n := 1; n <= 300_000; n++ {
		d.add(Chat{ID: int64(n) * -1001}.hash(), exactMost)
		d.add(Chat{ID: int64(n) * -1001}.hash(), exactMost)
		switch {
		case n <= exactMost:
			require.True(t, d.Exact())
			require.EqualValues(t, n, d.Count())
		case n%1000 == 0 || n < 200:
			require.False(t, d.Exact())
			require.InEpsilon(t, n, d.Count(), 0.07, "three times the standard error")
		}
	}
	data, err := d.MarshalBinary()
	require.NoError(t, err)
	assert.Len(t, data, 1+2048)
}

func TestJoinedChatsCountOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.Int64Range(-400, 400), 0, 500)
		a, b := ids.Draw(t, "a"), ids.Draw(t, "b")
		count := func(lists ...[]int64) (d Distinct) {
			for _, list := range lists {
				for _, id := range list {
					d.add(Chat{ID: id}.hash(), exactMost)
				}
			}
			return d
		}
		joined, left, right := count(a, b), count(a), count(b)
		if rapid.Bool().Draw(t, "stored") {
			data, _ := right.MarshalBinary()
			right = Distinct{}
			if err := right.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
		}
		left.Merge(&right)
		if left.Count() != joined.Count() || left.Exact() != joined.Exact() {
			t.Fatalf("%d and not %d", left.Count(), joined.Count())
		}
		seen := map[int64]bool{}
		for _, id := range append(slices.Clone(a), b...) {
			seen[id] = true
		}
		if left.Exact() && int(left.Count()) != len(seen) {
			t.Fatalf("%d and not %d", left.Count(), len(seen))
		}
	})
}

func FuzzDistinct(f *testing.F) {
	f.Add([]byte{formExact, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{formRegisters}, make([]byte, 1<<precision)...))
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Distinct
		if d.UnmarshalBinary(data) != nil {
			require.True(t, d.IsZero())
			return
		}
		before := d.Count()
		d.add(Chat{ID: 12345}.hash(), exactMost)
		require.GreaterOrEqual(t, d.Count()+1, before)
		again, err := d.MarshalBinary()
		require.NoError(t, err)
		var back Distinct
		require.NoError(t, back.UnmarshalBinary(again))
		require.Equal(t, d.Count(), back.Count())
	})
}

// Whatever is added and joined: each chat's true count is within what is said of
// it, and no chat is left out that has more than the floor.
func TestTheMostActiveChatsAreWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tops := make([]Top, 3)
		truth := map[Chat][2]uint64{}
		total := uint64(0)
		spread := rapid.SampledFrom([]float64{20, 100, 1000}).Draw(t, "spread")
		for range rapid.IntRange(0, 1500).Draw(t, "n") {
			x := rapid.Float64Range(0, 1).Draw(t, "x")
			chat := Chat{ID: int64(spread * x * x * x)}
			if chat.ID == 0 {
				chat.Username = "@channel"
			}
			in := uint64(rapid.IntRange(0, 1).Draw(t, "in"))
			tops[rapid.IntRange(0, 2).Draw(t, "top")].add(chat, chat.hash(), in, 1-in)
			n := truth[chat]
			truth[chat] = [2]uint64{n[0] + in, n[1] + 1 - in}
			total++
		}
		all := tops[0].Clone()
		for i := range tops[1:] {
			all.Merge(&tops[1+i])
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		var stored Top
		if err := json.Unmarshal(text, &stored); err != nil {
			t.Fatal(err)
		}
		if len(all.chats) > topMost {
			t.Fatalf("%d chats", len(all.chats))
		}
		listed := map[Chat]bool{}
		for _, c := range stored.Chats(topMost) {
			n := truth[c.Chat]
			if c.In > n[0] || c.Out > n[1] || c.In+c.Out+c.Missed < n[0]+n[1] {
				t.Fatalf("%v: in %d of %d, out %d of %d, missed %d", c.Chat, c.In, n[0], c.Out, n[1], c.Missed)
			}
			if len(truth) <= topMost && c.Missed != 0 {
				t.Fatalf("missed some with room for all")
			}
			listed[c.Chat] = true
		}
		for chat, n := range truth {
			if !listed[chat] && n[0]+n[1] > stored.floor {
				t.Fatalf("%v with %v is left out, above the floor of %d", chat, n, stored.floor)
			}
		}
		if stored.floor > 3*total/topMost+3 {
			t.Fatalf("the floor is %d of %d", stored.floor, total)
		}
	})
}

func TestFindLooksAtAllOfTheWord(t *testing.T) {
	var top Top
	// Hashes whose prints differ by one, which confuse the search for a zero
	// byte, and such as are alike.
	for i := range topMost {
		top.add(Chat{ID: int64(i + 1)}, uint64(i/3)<<56, 1, 0)
	}
	for i := range topMost {
		assert.Equal(t, i, top.find(Chat{ID: int64(i + 1)}, uint64(i/3)<<56))
	}
	assert.Equal(t, -1, top.find(Chat{ID: 1000}, 0))
	assert.Equal(t, -1, top.find(Chat{ID: 1}, 63<<56))
}

func TestHashesOfChatsAreFixed(t *testing.T) {
	// They are stored.
	assert.Equal(t, uint64(0xbdd732262feb6e95), Chat{ID: 42}.hash())
	assert.NotEqual(t, Chat{Username: "@a"}.hash(), Chat{Username: "@b"}.hash())
	var c Chat
	for _, want := range []Chat{{}, {ID: -1001234567890}, {Username: "@news"}, {ID: math.MinInt64}} {
		text, _ := want.MarshalText()
		require.NoError(t, c.UnmarshalText(text))
		assert.Equal(t, want, c)
	}
	assert.Error(t, c.UnmarshalText([]byte("news")))
}

func TestARollUpIsBoundedWhateverIsCalled(t *testing.T) {
	var r Rollup
	for i := range 1000 {
		name := string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		r.method(name).Requests++
		r.update(name).Count++
	}
	r.method(string(make([]byte, 1000))).Requests++
	assert.Len(t, r.Methods, maxNames)
	assert.Len(t, r.Updates, maxNames)
	assert.EqualValues(t, 1000-(maxNames-1)+1, r.method("other").Requests)
	var sum Rollup
	sum.Merge(&r)
	sum.Merge(&r)
	assert.Len(t, sum.Methods, maxNames)
	n := uint64(0)
	for _, m := range sum.Methods {
		n += m.Requests
	}
	assert.EqualValues(t, 2*1001, n)
}

func TestJoiningManyTopsAtOnceIsJoiningOneAfterTheOther(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sum := topSum{chats: make(map[Chat]ChatCount)}
	var want Top
	for range 30 {
		var top Top
		for range 500 {
			c := Chat{ID: 1 + int64(rng.ExpFloat64()*60)}
			top.add(c, c.hash(), 1, 0)
		}
		sum.add(&top)
		want.merge(&top, 1<<20)
	}
	assert.Equal(t, want.Chats(1000), sum.most(1000))
}
