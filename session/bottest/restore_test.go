package bottest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestABotOutlivesItsServer(t *testing.T) {
	before := bottest.New(bottest.Config{})
	old := before.NewBot("shop_bot")
	before.Close()

	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot, err := srv.RestoreBot("shop_bot", old.Token())
	require.NoError(t, err)
	assert.Equal(t, old.ID(), bot.ID())
	found, ok := srv.BotByToken(old.Token())
	assert.True(t, ok)
	assert.Same(t, bot, found)
	assert.NotEqual(t, bot.ID(), srv.NewBot("other_bot").ID(), "new bots get other ids")

	_, err = srv.RestoreBot("shop_bot", old.Token())
	assert.Error(t, err, "it is there")
	for _, bad := range []string{"", "x", "1", "1:", ":a", "-1:a"} {
		_, err = srv.RestoreBot("x_bot", bad)
		assert.Error(t, err)
	}
}
