package main

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// meter counts calls and their latencies. Long polls count as calls; how long
// they wait says nothing.
type meter struct {
	mu      sync.Mutex
	calls   int
	errors  map[string]int // by kind
	buckets [256]int       // of latencies, each 10 % wider than the one before
	timed   int
}

const (
	firstBucket = 10 * time.Microsecond
	growth      = 1.1
)

// Observe implements session.Observer.
func (m *meter) Observe(ctx context.Context, o session.Observation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.Kind == errors.Canceled || o.Err != nil && ctx.Err() != nil {
		return // we hung up ourselves
	}
	m.calls++
	if o.Err != nil {
		if m.errors == nil {
			m.errors = make(map[string]int)
		}
		m.errors[o.Kind.String()]++
	}
	if strings.EqualFold(o.Method, "getUpdates") {
		return
	}
	i := 0
	if o.Latency > firstBucket {
		i = int(math.Log(float64(o.Latency)/float64(firstBucket))/math.Log(growth)) + 1
	}
	m.buckets[min(i, len(m.buckets)-1)]++
	m.timed++
}

// figures are a meter's at one moment.
type figures struct {
	Calls  int            `json:"calls"`
	Errors int            `json:"errors"`
	ByKind map[string]int `json:"errors_by_kind"`
	P50    float64        `json:"p50_ms"`
	P99    float64        `json:"p99_ms"`
}

func (m *meter) figures() figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := figures{Calls: m.calls, ByKind: make(map[string]int, len(m.errors)), P50: m.percentile(50), P99: m.percentile(99)}
	for kind, n := range m.errors {
		f.ByKind[kind] = n
		f.Errors += n
	}
	return f
}

// percentile returns the upper end of the bucket that it falls into, in
// milliseconds. The lock is held.
func (m *meter) percentile(p int) float64 {
	rank := m.timed * p / 100
	for i, n := range m.buckets {
		if rank -= n; rank < 0 {
			return float64(firstBucket) * math.Pow(growth, float64(i)) / float64(time.Millisecond)
		}
	}
	return 0
}
