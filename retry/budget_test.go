package retry_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/retry"
	"pgregory.net/rapid"
)

func newRapidBudget(t *rapid.T, cfg retry.BudgetConfig) *retry.Budget {
	b, err := retry.NewBudget(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNewBudgetNamesEveryBadField(t *testing.T) {
	_, err := retry.NewBudget(retry.BudgetConfig{Share: math.NaN(), Burst: -1, KeyShare: 1.5, MaxKeys: -1})
	require.Error(t, err)
	for _, field := range []string{"Share NaN", "Burst", "KeyShare 1.5", "MaxKeys"} {
		assert.ErrorContains(t, err, field)
	}
}

func TestCallsEarnRetriesInWholeShares(t *testing.T) {
	for _, share := range []float64{0.1, 0.2, 0.01, 0.29, 0.5, 1, 1e-6} {
		b := newBudget(t, retry.BudgetConfig{Share: share, Burst: 1, KeyBurst: -1})
		require.True(t, b.Withdraw("a"))
		n := int(math.Ceil(1/share - 1e-9))
		for range n - 1 {
			b.Deposit("a")
		}
		assert.False(t, share < 1 && b.Withdraw("a"), "%v: a call too early", share)
		b.Deposit("a")
		assert.True(t, b.Withdraw("a"), "%v: %d calls are enough", share, n)
	}
	// 0.0157 in binary is a hair less.
	b := newBudget(t, retry.BudgetConfig{Share: 0.0157, Burst: 1000})
	for b.Withdraw("") {
	}
	for range 10_000 {
		b.Deposit("")
	}
	_, ofAll := b.Left("")
	assert.Equal(t, 157, ofAll)
}

func TestAKeyIsRememberedOnlyWhileItsBurstIsNotWhole(t *testing.T) {
	b := newBudget(t, retry.BudgetConfig{})
	for i := range 1000 {
		b.Deposit(fmt.Sprint(i))
	}
	assert.Zero(t, b.Keys())
	require.True(t, b.Withdraw("a"))
	require.True(t, b.Withdraw("b"))
	assert.Equal(t, 2, b.Keys())
	for range 5 {
		b.Deposit("a")
	}
	assert.Equal(t, 1, b.Keys())
	ofKey, _ := b.Left("a")
	assert.Equal(t, 10, ofKey)
	ofKey, _ = b.Left("b")
	assert.Equal(t, 9, ofKey)
}

func TestWithoutAKeyOnlyTheBudgetOfAllBinds(t *testing.T) {
	b := newBudget(t, retry.BudgetConfig{Burst: 50})
	for range 50 {
		require.True(t, b.Withdraw(""))
	}
	assert.False(t, b.Withdraw(""))
	assert.False(t, b.Withdraw("a"), "what all have used up, no key has")
	assert.Zero(t, b.Keys(), "a refused key has lost nothing")
	ofKey, ofAll := b.Left("")
	assert.Equal(t, math.MaxInt, ofKey)
	assert.Zero(t, ofAll)
}

func TestAFullBudgetNeitherMintsTokensNorRefusesNewKeysForEver(t *testing.T) {
	b := newBudget(t, retry.BudgetConfig{Burst: 1 << 20, MaxKeys: 4, KeyBurst: 5})
	granted := 0
	for i := range 1000 {
		for range 10 {
			if b.Withdraw(fmt.Sprint(i)) {
				granted++
			}
		}
		assert.LessOrEqual(t, b.Keys(), 4)
	}
	assert.Equal(t, 4*5, granted, "the bursts of four")
	for range 5 {
		b.Deposit("999")
	}
	assert.True(t, b.Withdraw("999"), "who calls earns, although those before are gone")
}

// The budget against two bounds of arithmetic, for any order of calls and
// retries.
func TestRetriesNeverExceedShareTimesCallsPlusBurst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.IntRange(1, 1000).Draw(t, "share")
		keyShare := rapid.IntRange(1, 1000).Draw(t, "key share")
		burst := rapid.IntRange(1, 30).Draw(t, "burst")
		keyBurst := rapid.IntRange(1, 10).Draw(t, "key burst")
		maxKeys := rapid.IntRange(1, 8).Draw(t, "keys")
		b := newRapidBudget(t, retry.BudgetConfig{
			Share: float64(share) / 1000, Burst: burst,
			KeyShare: float64(keyShare) / 1000, KeyBurst: keyBurst, MaxKeys: maxKeys,
		})
		type count struct{ calls, retries int }
		var all count
		keys := map[string]*count{}
		names := []string{"a", "b", "c", "d", "e"}
		for range rapid.IntRange(0, 300).Draw(t, "n") {
			key := rapid.SampledFrom(names).Draw(t, "key")
			if keys[key] == nil {
				keys[key] = &count{}
			}
			k := keys[key]
			if rapid.Bool().Draw(t, "call") {
				b.Deposit(key)
				all.calls++
				k.calls++
			} else if b.Withdraw(key) {
				all.retries++
				k.retries++
			}
			if all.retries*1000 > share*all.calls+burst*1000 {
				t.Fatalf("%+v of all", all)
			}
			if maxKeys >= len(names) && k.retries*1000 > keyShare*k.calls+keyBurst*1000 {
				t.Fatalf("%+v of a key", *k)
			}
			if b.Keys() > maxKeys {
				t.Fatalf("%d keys", b.Keys())
			}
		}
	})
}

// The budget against a model that keeps every key and counts in thousandths.
func TestTheBudgetDoesWhatItsModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.IntRange(1, 1000).Draw(t, "share")
		keyShare := rapid.IntRange(1, 1000).Draw(t, "key share")
		burst := rapid.IntRange(1, 30).Draw(t, "burst")
		keyBurst := rapid.IntRange(1, 10).Draw(t, "key burst")
		b := newRapidBudget(t, retry.BudgetConfig{
			Share: float64(share) / 1000, Burst: burst, KeyShare: float64(keyShare) / 1000, KeyBurst: keyBurst,
		})
		all, keys := burst*1000, map[string]int{}
		for _, key := range []string{"a", "b", "c"} {
			keys[key] = keyBurst * 1000
		}
		key := rapid.SampledFrom([]string{"a", "b", "c", ""})
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				key := key.Draw(t, "key")
				b.Deposit(key)
				all = min(all+share, burst*1000)
				if key != "" {
					keys[key] = min(keys[key]+keyShare, keyBurst*1000)
				}
			},
			"retry": func(t *rapid.T) {
				key := key.Draw(t, "key")
				want := all >= 1000 && (key == "" || keys[key] >= 1000)
				if want {
					all -= 1000
					if key != "" {
						keys[key] -= 1000
					}
				}
				if got := b.Withdraw(key); got != want {
					t.Fatalf("%q: %v, not %v", key, got, want)
				}
			},
			"": func(t *rapid.T) {
				short := 0
				for key, have := range keys {
					ofKey, ofAll := b.Left(key)
					if ofKey != have/1000 || ofAll != all/1000 {
						t.Fatalf("%q: %d of %d left, not %d of %d", key, ofKey, ofAll, have/1000, all/1000)
					}
					if have < keyBurst*1000 {
						short++
					}
				}
				if b.Keys() != short {
					t.Fatalf("%d keys, not %d", b.Keys(), short)
				}
			},
		})
	})
}

func TestTheBudgetHoldsUnderConcurrentUse(t *testing.T) {
	b := newBudget(t, retry.BudgetConfig{Share: 0.1, Burst: 20, KeyShare: 0.2, KeyBurst: 5})
	const workers, each, names = 8, 2000, 7
	var retries atomic.Int64
	var ofKey [names]atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				n := (w + i) % names
				key := fmt.Sprint(n)
				b.Deposit(key)
				for range 3 {
					if b.Withdraw(key) {
						retries.Add(1)
						ofKey[n].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, int(retries.Load()), workers*each/10+20)
	assert.GreaterOrEqual(t, int(retries.Load()), workers*each/10, "all that was earned was there to take")
	for i := range ofKey {
		assert.LessOrEqual(t, int(ofKey[i].Load()), (workers*each/names+workers)/5+5)
	}
}

func TestNoTokenIsTakenTwice(t *testing.T) {
	const burst = 1 << 22
	b := newBudget(t, retry.BudgetConfig{Burst: burst})
	var taken atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			<-start
			for b.Withdraw("") {
				taken.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	assert.Equal(t, burst, int(taken.Load()))
}

func TestAKeyTakesAtMostWhatIsSaid(t *testing.T) {
	const n = 1 << 16
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b := newBudget(t, retry.BudgetConfig{Burst: n})
	for i := range n + n/10 {
		b.Withdraw(strings.Repeat("k", 24) + fmt.Sprintf("%08d", i))
	}
	each := float64(heap()-before) / n
	assert.Equal(t, n, b.Keys())
	assert.Less(t, each, 256.0)
	t.Logf("%.0f bytes a key", each)
	runtime.KeepAlive(b)
}
