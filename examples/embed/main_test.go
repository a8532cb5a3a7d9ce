package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestItEchoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		defer srv.Close()
		bot, ann := srv.NewBot("echo_bot"), srv.NewUser("Ann")
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- run(ctx, bot.Token(), session.Config{Transport: srv.Transport()}) }()

		ann.Write(bot, "hello")
		time.Sleep(time.Second)
		messages := srv.Messages(ann.ID)
		require.Len(t, messages, 2)
		assert.Equal(t, "hello", messages[1].Text)
		assert.Equal(t, bot.ID(), messages[1].From.Id)
		stop()
		require.NoError(t, <-done)
	})
}

func TestABadTokenIsSaidSoWithoutShowingIt(t *testing.T) {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	err := run(context.Background(), "123:secret secret", session.Config{Transport: srv.Transport()})
	assert.ErrorIs(t, err, errors.InvalidToken)
	assert.NotContains(t, err.Error(), "secret secret")
}
