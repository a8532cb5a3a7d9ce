package usage

import (
	"cmp"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// Rollup is what a tenant's bot did in an hour, or in a day long ago: what a
// [Store] keeps, and what is added to it. Its size is bounded: 64 methods, types
// and chats have counts of their own, and the rest are counted together.
//
// It is written and read as JSON, which later versions of the library extend
// and do not change. A store may keep it as one column beside its key, which is
// Tenant, Daily and Start, or as many.
type Rollup struct {
	// Tenant is the tenant's id.
	Tenant string `json:"tenant"`
	// Start is when the hour or the day begins, in UTC.
	Start time.Time `json:"start"`
	// Daily says that it is a day and not an hour.
	Daily bool `json:"daily,omitempty"`

	// Requests are all calls that were made, and Failures those of them that
	// brought an error, whosever it was: by Kinds. Calls that the caller gave up
	// are not counted.
	Requests uint64      `json:"requests,omitempty"`
	Failures uint64      `json:"failures,omitempty"`
	Kinds    []KindCount `json:"kinds,omitempty"`
	// Refused are calls that this program held back, for want of room in its
	// limits, before an open circuit breaker or since the tenant may not be used.
	// They are in none of the other figures but LastActive.
	Refused uint64 `json:"refused,omitempty"`
	// Methods are the requests and failures by Bot API method.
	Methods []MethodCount `json:"methods,omitempty"`

	// Timed is how many requests' latencies were counted: all but those of
	// long polls. Latency is their sum, and Latencies how they are distributed.
	Timed     uint64        `json:"timed,omitempty"`
	Latency   time.Duration `json:"latency,omitempty"`
	Latencies health.Sketch `json:"latencies,omitzero"`

	// Received are all updates, and Updates those of each type.
	Received uint64      `json:"received,omitempty"`
	Updates  []TypeCount `json:"updates,omitempty"`

	// Unique counts the chats that anything came from or went to, and Top are
	// the most active of them.
	Unique Distinct `json:"unique,omitzero"`
	Top    Top      `json:"top,omitzero"`

	// LastActive is when the last call ended or the last update came.
	LastActive time.Time `json:"last_active,omitzero"`
}

// KindCount is how many requests failed with a kind.
type KindCount struct {
	Kind  errors.Kind `json:"kind"`
	Count uint64      `json:"count"`
}

// MethodCount is how often a Bot API method was called.
type MethodCount struct {
	// Method is its name, such as "sendMessage". Failures are those of the
	// requests that brought an error.
	Method   string `json:"method"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures,omitempty"`
}

// TypeCount is how many updates of a type came.
type TypeCount struct {
	// Type is the kind of update, such as "message".
	Type  string `json:"type"`
	Count uint64 `json:"count"`
}

const (
	// maxNames bounds the methods and types that have counts of their own. The
	// last one is "other".
	maxNames = 64
	// maxNameLen bounds their length.
	maxNameLen = 64
	other      = "other"
)

func (r *Rollup) kind(kind errors.Kind) *KindCount {
	for i := range r.Kinds {
		if r.Kinds[i].Kind == kind {
			return &r.Kinds[i]
		}
	}
	r.Kinds = append(r.Kinds, KindCount{Kind: kind}) // there are few
	return &r.Kinds[len(r.Kinds)-1]
}

func (r *Rollup) method(name string) *MethodCount {
	for i := range r.Methods {
		if r.Methods[i].Method == name {
			return &r.Methods[i]
		}
	}
	if len(r.Methods) >= maxNames-1 || len(name) > maxNameLen {
		if name == other {
			r.Methods = append(r.Methods, MethodCount{Method: other})
			return &r.Methods[len(r.Methods)-1]
		}
		return r.method(other)
	}
	r.Methods = append(r.Methods, MethodCount{Method: name})
	return &r.Methods[len(r.Methods)-1]
}

func (r *Rollup) update(name string) *TypeCount {
	for i := range r.Updates {
		if r.Updates[i].Type == name {
			return &r.Updates[i]
		}
	}
	if len(r.Updates) >= maxNames-1 || len(name) > maxNameLen {
		if name == other {
			r.Updates = append(r.Updates, TypeCount{Type: other})
			return &r.Updates[len(r.Updates)-1]
		}
		return r.update(other)
	}
	r.Updates = append(r.Updates, TypeCount{Type: name})
	return &r.Updates[len(r.Updates)-1]
}

// Merge adds the counts of a roll-up of the same tenant. Tenant, Start and Daily
// stay as they are. Each store does it with this method, so that all agree on
// what it means; the order in which roll-ups are added matters only for what is
// beyond the 64 most.
func (r *Rollup) Merge(add *Rollup) { r.merge(add, exactMost, topMost) }

func (r *Rollup) merge(add *Rollup, exact, top int) {
	r.Requests += add.Requests
	r.Failures += add.Failures
	r.Refused += add.Refused
	for _, k := range add.Kinds {
		r.kind(k.Kind).Count += k.Count
	}
	r.apart()
	for _, m := range add.Methods {
		to := r.method(m.Method)
		to.Requests += m.Requests
		to.Failures += m.Failures
	}
	r.Timed += add.Timed
	r.Latency += add.Latency
	r.Latencies.Merge(&add.Latencies)
	r.Received += add.Received
	for _, u := range add.Updates {
		r.update(u.Type).Count += u.Count
	}
	r.Unique.merge(&add.Unique, exact)
	r.Top.merge(&add.Top, top)
	if add.LastActive.After(r.LastActive) {
		r.LastActive = add.LastActive
	}
}

// apart moves what was refused from Requests to Refused: in roll-ups that were
// stored before there was Refused, it was counted as failures, and Kinds tell
// how many. By method it stays with the requests.
func (r *Rollup) apart() {
	r.Kinds = slices.DeleteFunc(r.Kinds, func(k KindCount) bool {
		if !refused(k.Kind) {
			return false
		}
		r.Requests -= min(k.Count, r.Requests)
		r.Failures -= min(k.Count, r.Failures)
		r.Refused += k.Count
		return true
	})
}

// refused reports whether a kind is of a call that was never sent.
func refused(k errors.Kind) bool {
	switch k {
	case errors.BreakerOpen, errors.Suspended, errors.Unverified:
		return true
	case errors.Internal: // also what an older version can't read
		return false
	}
	return k.Fault() == errors.FaultLocal
}

// Clone returns a copy that shares nothing that can be changed.
func (r *Rollup) Clone() Rollup {
	c := *r
	c.Kinds, c.Methods, c.Updates = slices.Clone(r.Kinds), slices.Clone(r.Methods), slices.Clone(r.Updates)
	c.Latencies, c.Unique, c.Top = r.Latencies.Clone(), r.Unique.Clone(), r.Top.Clone()
	return c
}

// Check reports what keeps a roll-up from being stored, as an error of kind
// [errors.BadRequest].
func (r *Rollup) Check() error {
	why := ""
	unit := time.Hour
	if r.Daily {
		unit = Day
	}
	switch {
	case r.Tenant == "":
		why = "tenant is empty"
	case r.Start.Location() != time.UTC || !r.Start.Equal(r.Start.Truncate(unit)):
		why = "start is not a full hour or day in UTC"
	default:
		return nil
	}
	return &errors.Error{Kind: errors.BadRequest, Op: "check roll-up", Key: r.Tenant, Err: errors.New(why), Delivery: errors.NotDelivered}
}

// Day is 24 hours: what a daily roll-up spans, since UTC has no other days.
const Day = 24 * time.Hour

// byCount sorts by falling count.
func byCount[T any](list []T, count func(T) uint64, name func(T) string) {
	slices.SortStableFunc(list, func(a, b T) int {
		return cmp.Or(cmp.Compare(count(b), count(a)), cmp.Compare(name(a), name(b)))
	})
}
