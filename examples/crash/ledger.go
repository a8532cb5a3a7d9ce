package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant"
)

// ledger is what the servers have said.
type ledger struct {
	mu        sync.Mutex // guards what follows
	tenants   map[string]*account
	confirmed int // changes
	opened    int // tenants, after all restarts
	notOpened int
	active    int // tenants that the next server is to open; -1: not known
}

// account is what is known of one tenant.
type account struct {
	version int64 // confirmed; 0: not registered
	gone    bool  // its removal is confirmed
	pending string
}

func newLedger() *ledger { return &ledger{tenants: map[string]*account{}, active: -1} }

// note reports whether the server says that it has opened its tenants.
func (l *ledger) note(words []string) (opened bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(words) == 4 && words[0] == "opened":
		n, _ := strconv.Atoi(words[1])
		of, _ := strconv.Atoi(words[3])
		if l.active >= 0 {
			of = max(of, l.active)
		}
		l.opened += n
		l.notOpened += of - n
		return true
	case len(words) == 3 && words[0] == "begin":
		a := l.tenants[words[2]]
		if a == nil {
			a = &account{}
			l.tenants[words[2]] = a
		}
		a.pending = words[1]
	case len(words) == 4 && words[0] == "done":
		a := l.tenants[words[2]]
		a.pending = ""
		switch words[1] {
		case "use":
			return false
		case "remove":
			a.gone = true
		default:
			a.version, _ = strconv.ParseInt(words[3], 10, 64)
		}
		l.confirmed++
	}
	return false
}

// verdict is what a comparison found.
type verdict struct{ stored, lost, half int }

func (v *verdict) add(w verdict) { v.lost += w.lost; v.half += w.half }

func (v verdict) String() string {
	return fmt.Sprintf("%d tenants stored, %d lost, %d half-made", v.stored, v.lost, v.half)
}

// check compares the ledger with the database. What was under way when the
// server died may have been done or not, but not by half; from then on what is
// stored counts.
func (l *ledger) check(ctx context.Context, where, keys string) (v verdict, err error) {
	db, err := database.Open(ctx, where, keys)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stored, log, err := readAll(ctx, db.Tenants)
	if err != nil {
		return v, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v.stored, l.active = len(stored), 0
	for id, r := range stored {
		if r.Status == tenant.Active {
			l.active++
		}
		if r.TokenErr != nil || r.Validate() != nil || !matches(log[id], r.Version, false) {
			v.half++
		}
	}
	for id, a := range l.tenants {
		r, there := stored[id]
		switch {
		case there && a.gone:
			v.lost++ // the removal
		case there && r.Version != a.version && !(a.changing() && r.Version == a.version+1):
			v.lost++
		case !there && !a.gone && a.version > 0 && a.pending != "remove":
			v.lost++
		case !there && len(log[id]) > 0 && !matches(log[id], log[id][len(log[id])-1].Version, true):
			v.half++
		}
		a.pending = ""
		if there {
			a.version = r.Version
		} else {
			a.gone = true
		}
	}
	return v, nil
}

// changing reports whether a change was under way that moves the version.
func (a *account) changing() bool {
	return a.pending != "" && a.pending != "use" && a.pending != "remove"
}

// matches reports whether the log has one entry for each version of a record,
// and one more for its removal.
func matches(log []tenant.Entry, version int64, removed bool) bool {
	if removed {
		if len(log) == 0 || log[len(log)-1].Action != tenant.ActionRemove {
			return false
		}
		log = log[:len(log)-1]
	}
	if int64(len(log)) != version {
		return false
	}
	for i, e := range log {
		if e.Version != int64(i+1) || e.Action == tenant.ActionRemove {
			return false
		}
	}
	return true
}

func readAll(ctx context.Context, s tenant.Store) (map[string]tenant.Record, map[string][]tenant.Entry, error) {
	records := map[string]tenant.Record{}
	for f := (tenant.Filter{Limit: 1000}); ; {
		page, err := s.List(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			records[r.ID] = r
		}
		f.After = page[len(page)-1].ID
	}
	log := map[string][]tenant.Entry{}
	for f := (tenant.LogFilter{Limit: 1000}); ; {
		page, err := s.Log(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			log[e.Tenant] = append(log[e.Tenant], e)
		}
		f.After = page[len(page)-1].Seq
	}
	return records, log, nil
}
