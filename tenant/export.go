package tenant

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// exportFormat is in the first line of an export, exportPurpose is what its
// tokens are sealed for: what was put into a store does not open as an export,
// nor the other way round.
const (
	exportFormat  = "tgfleet/tenants/1"
	exportPurpose = "bot token, exported"
)

// exported is a line of an export, or its head or foot.
type exported struct {
	// The head.
	Format string `json:"format,omitempty"`

	ID        string            `json:"id,omitempty"`
	BotID     int64             `json:"bot_id,omitempty"`
	Username  string            `json:"username,omitempty"`
	Name      string            `json:"name,omitempty"`
	Token     []byte            `json:"token,omitempty"` // sealed
	Status    Status            `json:"status,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Limits    *session.Limits   `json:"limits,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"created_at,omitzero"`
	UpdatedAt time.Time         `json:"updated_at,omitzero"`

	// The foot, without which an export was cut.
	Records *int `json:"records,omitempty"`
}

// Export writes all records of a store as JSON lines, for backups and for
// [Import] into another one, and returns how many. Tokens are sealed with keys,
// which need not be the store's; all else is in the clear. Health, versions and
// the log are not exported.
//
// A record whose token can't be unsealed is left out; the error then says how
// many were, after all others were written. Records that others change
// meanwhile are written as they were before or after.
func Export(ctx context.Context, store Store, keys *seal.Ring, w io.Writer) (int, error) {
	const op = "export tenants"
	out := bufio.NewWriterSize(w, 64<<10)
	lines := json.NewEncoder(out)
	if err := lines.Encode(exported{Format: exportFormat}); err != nil {
		return 0, fail(op, "", errors.Internal, err)
	}
	n, unreadable := 0, 0
	var first error
	filter := Filter{Limit: 500}
	for {
		page, err := store.List(ctx, filter)
		if err != nil {
			return n, err
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if r.TokenErr != nil {
				if unreadable++; first == nil {
					first = r.TokenErr
				}
				continue
			}
			line, err := export(r.Normal(), keys)
			if err == nil {
				err = lines.Encode(line)
			}
			if err != nil {
				return n, fail(op, r.ID, errors.Internal, err)
			}
			n++
		}
		filter.After = page[len(page)-1].ID
	}
	err := lines.Encode(exported{Records: &n})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return n, fail(op, "", errors.Internal, err)
	}
	if first != nil {
		return n, fmt.Errorf("%s: %d tokens could not be unsealed; the first: %w", op, unreadable, first)
	}
	return n, nil
}

func export(r Record, keys *seal.Ring) (exported, error) {
	token, err := keys.Seal(exportPurpose, r.ID, []byte(r.Token.Reveal()))
	if err != nil {
		return exported{}, err
	}
	e := exported{
		ID: r.ID, BotID: r.BotID, Username: r.Username, Name: r.Name, Token: token, Status: r.Status, Reason: r.Reason,
		Metadata: r.Metadata, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	if !r.Limits.IsZero() {
		e.Limits = &r.Limits
	}
	return e, nil
}

// record is the way back.
func (e exported) record(keys *seal.Ring) (Record, error) {
	// First, so that no id that is a token in the wrong place gets into an
	// error.
	if err := checkID(e.ID); err != nil {
		return Record{}, err
	}
	token, err := keys.Open(exportPurpose, e.ID, e.Token)
	if err != nil {
		return Record{}, err
	}
	r := Record{
		ID: e.ID, BotID: e.BotID, Username: e.Username, Name: e.Name, Status: e.Status, Reason: e.Reason,
		Metadata: e.Metadata, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
	if e.Limits != nil {
		r.Limits = *e.Limits
	}
	if r.Token, err = session.ParseToken(string(token)); err != nil {
		return Record{}, err
	}
	return r.Normal(), r.Validate()
}
