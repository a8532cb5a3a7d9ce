package tenant_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestBadIDsAreRefusedAndNotShown(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.srv.NewBot("shop_bot")
	for name, id := range map[string]string{
		"empty":             "",
		"too long":          strings.Repeat("x", tenant.MaxIDLen+1),
		"no UTF-8":          "\xff",
		"a control":         "a\nb",
		"the token instead": bot.Token(),
	} {
		_, err := f.Register(bg, id, bot.Token())
		assert.Equal(t, errors.BadRequest, errors.KindOf(err), name)
		assert.NotContains(t, err.Error(), bot.Token())
	}
	_, err := f.Register(bg, "shop", bot.Token())
	assert.NoError(t, err)
}
