package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlinbox"
)

// bell wakes the workers of this process at once, and those of others by
// NOTIFY: not oftener than every bellPause, since all commits of a server that
// notify wait for each other. Losing one costs no more than workers that look
// when they would have looked anyway.
type bell struct {
	db     *DB
	waker  sqlinbox.Waker
	sender string // tells ours from others'
	others func() // is called before others wake the workers

	deaf atomic.Bool // it does not hear of others

	mu        sync.Mutex // guards what follows
	listening bool
	closed    bool
	pending   *time.Timer // not nil while a NOTIFY is to be sent
	sent      time.Time

	stop context.CancelFunc
	ctx  context.Context // of the goroutines; ended by close
	work sync.WaitGroup
}

const (
	bellPause   = 20 * time.Millisecond
	bellTime    = 5 * time.Second // for sending one
	bellRestMin = 100 * time.Millisecond
	bellRestMax = 10 * time.Second
)

func newBell(db *DB, others func()) *bell {
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	b := &bell{db: db, sender: hex.EncodeToString(id), others: others}
	b.deaf.Store(true)
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

func (db *DB) inboxChannel() string { return db.cfg.Schema + "_inbox" }

// wake begins to listen, the first time.
func (b *bell) wake() <-chan struct{} {
	b.mu.Lock()
	if !b.listening && !b.closed {
		b.listening = true
		b.work.Go(b.listen)
	}
	b.mu.Unlock()
	return b.waker.Wake()
}

// ring wakes all.
func (b *bell) ring() {
	b.waker.Broadcast()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.pending != nil {
		return
	}
	b.work.Add(1)
	b.pending = time.AfterFunc(max(0, bellPause-time.Since(b.sent)), b.send)
}

func (b *bell) send() {
	defer b.work.Done()
	b.mu.Lock()
	b.pending, b.sent = nil, time.Now()
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(b.ctx, bellTime)
	defer cancel()
	_, _ = b.db.pool.Exec(ctx, "SELECT pg_notify($1, $2)", b.db.inboxChannel(), b.sender)
}

// listen listens, with a new connection when one breaks.
func (b *bell) listen() {
	rest := bellRestMin
	for {
		began := time.Now()
		b.listenOnce()
		if time.Since(began) > bellRestMax {
			rest = bellRestMin
		}
		select {
		case <-b.ctx.Done():
			return
		case <-time.After(rest):
		}
		rest = min(2*rest, bellRestMax)
	}
}

func (b *bell) listenOnce() {
	pooled, err := b.db.pool.Acquire(b.ctx)
	if err != nil {
		return
	}
	conn := pooled.Hijack() // with LISTEN on, it is not for anybody else
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(b.ctx, "LISTEN "+pgx.Identifier{b.db.inboxChannel()}.Sanitize()); err != nil {
		return
	}
	b.deaf.Store(false)
	defer b.deaf.Store(true)
	b.others() // what came while nobody listened
	b.waker.Broadcast()
	for {
		payload, ok, err := b.db.notification(b.ctx, conn)
		if err != nil {
			return
		}
		if ok && payload != b.sender {
			b.others()
			b.waker.Broadcast()
		}
	}
}

func (b *bell) close() {
	b.mu.Lock()
	b.closed = true
	if b.pending != nil && b.pending.Stop() {
		b.pending = nil
		b.work.Done()
	}
	b.mu.Unlock()
	b.stop()
	b.work.Wait()
}
