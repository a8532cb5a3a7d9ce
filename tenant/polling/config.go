package polling

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Inbox is where updates are put; every [inbox.Inbox] is one.
type Inbox interface {
	// Put stores updates; see [inbox.Inbox].
	Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error)
}

// Records are where tokens come from; every [tenant.Store] is one, and so is
// [tenant.Manager].
type Records interface {
	// Get returns the tenant's record; an error of kind [errors.NotFound] where
	// there is none.
	Get(ctx context.Context, id string) (tenant.Record, error)
}

// Config configures a [Supervisor]. Its zero value is a good one for a service
// that is one process. Negative values are errors where nothing else is said.
type Config struct {
	// Leases say which process polls a tenant. Nil means that this one is
	// alone.
	Leases Leases
	// LeaseTTL is how long a lease lasts that is not extended, and so about
	// how long nobody polls a tenant whose process has died. It is extended
	// three times as often. 0 means 30 s; less than 1 s is an error.
	LeaseTTL time.Duration
	// Owner is this supervisor's name in Leases. It must be one that no other
	// has or had a moment ago, so "" makes one up, which begins with the
	// host's name; that is almost always right.
	Owner string

	// Tenants lists those to poll, for [Supervisor.Sync], which is called with
	// it at the start and every SyncEvery (0 means 1 min). A Manager's List of
	// the active ones fits. The list then decides, and Add and Remove only act
	// sooner. Nil leaves it to Add, Remove and Sync.
	Tenants   func(ctx context.Context) iter.Seq2[tenant.Record, error]
	SyncEvery time.Duration
	// Watch tells of changes of records, so that a token that was replaced, or a
	// tenant that is new, suspended or gone, is heard of at once and not at the
	// next SyncEvery. The Watch of a [tenant.Store] fits. Nil waits. Where there
	// is no list and changes were missed, those that are polled or were stopped
	// are looked at again; nobody else is known.
	//
	// A change of a tenant that is not polled here has its record read, where
	// there is a Wants to say whether it is to be. Without, only the list can say,
	// and it is read again: within SyncEvery/20, and where that brings nobody, as
	// where most tenants have webhooks, less and less often, down to twice in
	// SyncEvery.
	Watch func(ctx context.Context, f func(tenant.Change)) error
	// Wants selects of the active tenants those that are polled, such as those
	// that have no webhook, by what their records say; the others are not, also
	// where Tenants lists them or somebody adds them. It is called often, from
	// several goroutines, and must return at once. Nil selects all.
	Wants func(r tenant.Record) bool
	// MaxTenants bounds how many this process polls. What it leaves the other
	// processes share. 0 is no bound.
	MaxTenants int
	// Starting bounds how many tenants are in their first getUpdates at one
	// time. The others wait without a goroutine, a call or a lease. While
	// Telegram or the session's limiter holds back those that start, it is
	// fewer. 0 means 32.
	Starting int

	// PollTimeout is how long Telegram is asked to wait for an update: whole
	// seconds, at most 50. 0 means 50 s.
	PollTimeout time.Duration
	// Batch is how many updates a call returns at most, 1 to 100. 0 means 100.
	Batch int
	// AllowedUpdates are the kinds of updates to ask for, such as
	// inbox.KindsOf(handler). Nil leaves it as it was set before, and empty
	// means Telegram's usual ones: all but chat_member, message_reaction and
	// message_reaction_count.
	AllowedUpdates []string
	// DeleteWebhook deletes a webhook that is in the way, without dropping the
	// updates that wait. By default it is left, and the tenant is
	// [Conflicting] until it is gone: somebody may have set it on purpose. Leave
	// it so where tenants are handed over to webhooks while other processes may
	// still poll them.
	DeleteWebhook bool
	// PutTimeout bounds a call of the inbox, and one that reads a record. 0
	// means 30 s.
	PutTimeout time.Duration
	// YieldAfter is for how long a tenant may fail because of the network
	// before its lease is given back, so that a process with a better one can
	// have it. 0 means 2 min, negative never. Without Leases it is never.
	YieldAfter time.Duration

	// OnChange hears of each change of a State, or of its Kind, of a tenant
	// that this process polls, one after the other for each tenant, and of each
	// further answer that leaves it [Rejected]. [Quarantine] makes one. It is
	// called on the goroutine of the tenant's loop, which waits for it; so it
	// must not wait for that loop's end, by Remove, HandOver or Stop.
	OnChange func(ctx context.Context, s Status)
	// Logger hears of changes and of what nobody else is told. Nil discards.
	Logger *slog.Logger
}

// maxPoll is the longest time that Telegram waits (telegram-bot-api, Client.h,
// LONG_POLL_MAX_TIMEOUT), and maxBatch the most updates it returns.
const (
	maxPoll  = 50 * time.Second
	maxBatch = 100
)

// withDefaults returns the configuration that is meant. The error names every
// bad field.
func (c Config) withDefaults() (Config, error) {
	var bad []error
	number(&bad, "LeaseTTL", &c.LeaseTTL, 30*time.Second)
	number(&bad, "SyncEvery", &c.SyncEvery, time.Minute)
	number(&bad, "MaxTenants", &c.MaxTenants, 0)
	number(&bad, "Starting", &c.Starting, 32)
	number(&bad, "PollTimeout", &c.PollTimeout, maxPoll)
	number(&bad, "Batch", &c.Batch, maxBatch)
	number(&bad, "PutTimeout", &c.PutTimeout, 30*time.Second)
	if c.YieldAfter == 0 {
		c.YieldAfter = 2 * time.Minute
	}
	if c.LeaseTTL > 0 && c.LeaseTTL < time.Second {
		bad = append(bad, errors.New("LeaseTTL is less than a second"))
	}
	if c.PollTimeout > maxPoll || c.PollTimeout%time.Second != 0 {
		bad = append(bad, errors.New("PollTimeout is not whole seconds, or more than 50"))
	}
	if c.Batch > maxBatch {
		bad = append(bad, errors.New("Batch is more than 100"))
	}
	if len(bad) > 0 {
		return c, fail("configure polling", "", errors.Internal, errors.Join(bad...))
	}
	c.AllowedUpdates = slices.Clone(c.AllowedUpdates)
	if c.Owner == "" {
		host, _ := os.Hostname() // the rest of the name is enough
		c.Owner = fmt.Sprintf("%.40s/%d/%s", host, os.Getpid(), rand.Text()[:10])
	}
	if c.Leases == nil {
		c.Leases, c.YieldAfter = NewMemoryLeases(), -1
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// number puts a default where there is a zero, and notes what is negative.
func number[T int | time.Duration](bad *[]error, name string, value *T, zero T) {
	if *value < 0 {
		*bad = append(*bad, fmt.Errorf("%s is negative", name))
	}
	if *value == 0 {
		*value = zero
	}
}
