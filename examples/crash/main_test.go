package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAServerThatIsKilledLosesNothing(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-times", "3", "-longest", "700ms"}, &out, &out), "%s", &out)
	assert.Regexp(t, `\ncrash: 3 kills, [1-9]\d* changes confirmed, [1-9]\d* tenants stored, 0 lost, 0 half-made, 0 not opened, [1-9]\d* asked who they are, 0 wrong\n$`, out.String())
}

// A comparison that finds nothing wrong anywhere would prove nothing.
func TestTheComparisonFindsWhatIsWrong(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	path := filepath.Join(t.TempDir(), "fleet.db")
	db, err := database.Open(t.Context(), path, "")
	require.NoError(t, err)
	put := func(id string, bot int64, log ...tenant.Entry) tenant.Record {
		r, err := db.Tenants.Put(t.Context(), storetest.Record(t, id, bot), log...)
		require.NoError(t, err)
		return r
	}
	registered := tenant.Entry{Action: tenant.ActionRegister}
	put("good", 1, registered)
	put("without-log", 2)
	put("twice-logged", 3, registered, registered)
	r := put("removed", 4, registered)
	require.NoError(t, db.Tenants.Delete(t.Context(), "removed", r.Version, tenant.Entry{Action: tenant.ActionRemove}))
	r = put("silently-removed", 5, registered)
	require.NoError(t, db.Tenants.Delete(t.Context(), "silently-removed", r.Version))
	require.Equal(t, int64(3), put("late", 6, registered).Version, "above those that were removed")
	require.NoError(t, db.Close())

	for name, row := range map[string]struct {
		said       string
		lost, half int // besides the two that are half-made without a word
	}{
		"nothing":                      {"", 0, 0},
		"what is there":                {"begin register good|done register good 1", 0, 0},
		"what was under way":           {"begin register good", 0, 0},
		"half a line":                  {"begin register good|done register good 1|begin rotate go", 0, 0},
		"a change that is not there":   {"begin register good|done register good 1|begin rotate good|done rotate good 2", 1, 0},
		"a tenant that is not there":   {"begin register nobody|done register nobody 1", 1, 0},
		"one that never was confirmed": {"begin register nobody", 0, 0},
		"a removal that is not there":  {"begin register good|done register good 1|begin remove good|done remove good 0", 1, 0},
		"a removal":                    {"begin register removed|done register removed 1|begin remove removed|done remove removed 0", 0, 0},
		"what came after a removal":    {"begin register late|done register late 3", 0, 0},
		"that, under way":              {"begin register late", 0, 0},
		"another version than stored":  {"begin register late|done register late 1", 1, 0},
		"its bot":                      {"begin register good|done register good 1|me good good_bot", 0, 0},
		"a removal without a log":      {"begin register silently-removed|done register silently-removed 1|begin remove silently-removed", 0, 1},
	} {
		l := newLedger("")
		l.read(strings.NewReader(strings.ReplaceAll(row.said, "|", "\n")+"\n"), nil)
		v, err := l.check(t.Context(), path, "")
		require.NoError(t, err)
		assert.Equal(t, verdict{stored: 4, lost: row.lost, half: 2 + row.half}, v, name)
	}
	l := newLedger("")
	l.read(strings.NewReader("opened 3 of 5\n"), nil)
	assert.Equal(t, 2, l.notOpened)
}

func TestTheComparisonFindsWrongTokens(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	dir := t.TempDir()
	path, bots := filepath.Join(dir, "fleet.db"), filepath.Join(dir, "bots")
	db, err := database.Open(t.Context(), path, "")
	require.NoError(t, err)
	r, err := db.Tenants.Put(t.Context(), storetest.Record(t, "shop", 1), tenant.Entry{Action: tenant.ActionRegister})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	stored := r.Token.Reveal()
	const said = "begin register shop|done register shop 1|begin rotate shop"
	for name, row := range map[string]struct {
		said, bots string
		wrong      int
	}{
		"the valid one":                      {said, "shop_bot " + stored, 0},
		"one that Telegram never gave out":   {said, "shop_bot 1:other", 1},
		"another bot's":                      {said, "shop_bot 1:other|other_bot " + stored, 1},
		"the old one, the new not confirmed": {said, "shop_bot " + stored + "|shop_bot 1:new", 0},
		"the old one, the new confirmed":     {said + "|done rotate shop 1", "shop_bot " + stored + "|shop_bot 1:new", 1},
		"one from before the old one":        {said, "shop_bot " + stored + "|shop_bot 1:new|shop_bot 1:newer", 1},
	} {
		require.NoError(t, os.WriteFile(bots, []byte(strings.ReplaceAll(row.bots, "|", "\n")+"\n"), 0o600))
		l := newLedger(bots)
		l.read(strings.NewReader(strings.ReplaceAll(row.said, "|", "\n")+"\n"), nil)
		v, err := l.check(t.Context(), path, "")
		require.NoError(t, err)
		assert.Equal(t, verdict{stored: 1, wrong: row.wrong}, v, name)
	}
	for said, wrong := range map[string]int{
		"me shop shop_bot": 0, "me shop other_bot": 1, "me shop error:unauthorized": 1, "me tenant-0010 demo10_bot": 0,
	} {
		l := newLedger(bots)
		l.read(strings.NewReader(said+"\n"), nil)
		assert.Equal(t, 1, l.asked)
		assert.Equal(t, wrong, l.wrong, said)
	}
	l := newLedger(bots)
	l.account("shop").stale = true
	l.read(strings.NewReader("me shop error:unauthorized\n"), nil)
	assert.Zero(t, l.wrong, "it was given a token that was not stored before the end")
}

func TestTokensThatAreRefusedAreNoErrorsOfTheServer(t *testing.T) {
	const held = `time=2026-11-25T02:49:21Z level=ERROR msg="Telegram refuses many tokens at once; nobody more is quarantined for now" tenants=11
time=2026-11-25T02:49:21Z level=ERROR msg="is Telegram down, or is this its address?" refused=11
time=2026-11-25T02:49:21Z level=INFO msg="tenant registered"
`
	assert.False(t, hasErrors(held))
	assert.True(t, hasErrors(held+"time=2026-11-25T02:49:21Z level=ERROR msg=churn step=rotate\n"))
	assert.False(t, hasErrors(""))
}
